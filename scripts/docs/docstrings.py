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
        if not isinstance(node, ast.FunctionDef):
            return
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        for argument in arguments:
            if _has_shape(argument.annotation):
                func.parameters[argument.arg].annotation = griffe.get_expression(
                    argument.annotation, parent=func.parent, parse_strings=False
                )
        if _has_shape(node.returns):
            func.returns = griffe.get_expression(
                node.returns, parent=func.parent, parse_strings=False
            )

    def on_attribute_instance(
        self, *, node: Any, attr: griffe.Attribute, **_: Any
    ) -> None:
        """Keep the shapes of fields and aliases."""
        if isinstance(node, ast.AnnAssign) and _has_shape(node.annotation):
            attr.annotation = griffe.get_expression(
                node.annotation, parent=attr.parent, parse_strings=False
            )


def _has_shape(annotation: ast.expr | None) -> bool:
    """Whether there is a shape such as "h w 3", which is no forward reference."""
    return annotation is not None and "[Array, '" in ast.unparse(annotation)
