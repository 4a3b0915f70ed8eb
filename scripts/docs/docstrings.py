"""What Griffe, which reads the docstrings, must know about ours."""

import ast
import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Show `Example:` as a section and jaxtyping's shapes as they are written."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section to the one that Griffe knows."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.M
            )

    def on_function_instance(
        self, *, node: Any, func: griffe.Function, **_: Any
    ) -> None:
        """Keep the shapes of parameters and results."""
        if not isinstance(node, ast.FunctionDef) or func.parent is None:
            return
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        for argument in arguments:
            if shape := _as_written(argument.annotation, func.parent):
                func.parameters[argument.arg].annotation = shape
        func.returns = _as_written(node.returns, func.parent) or func.returns

    def on_attribute_instance(
        self, *, node: Any, attr: griffe.Attribute, **_: Any
    ) -> None:
        """Keep the shapes of fields."""
        if isinstance(node, ast.AnnAssign) and attr.parent is not None:
            shape = _as_written(node.annotation, attr.parent)
            attr.annotation = shape or attr.annotation


def _as_written(
    annotation: ast.expr | None, parent: griffe.Module | griffe.Class
) -> griffe.Expr | str | None:
    """An annotation with a shape such as "h w 3", which is no forward reference."""
    if annotation is None or "[Array, '" not in ast.unparse(annotation):
        return None
    return griffe.get_expression(annotation, parent=parent, parse_strings=False)
