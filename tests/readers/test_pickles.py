"""Files of PyTorch that mean harm: nothing runs, and no size is believed."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from networks import mini, refusal, refusal_and_memory
from oracle import NAMES
from writers import (
    FLOAT,
    ORDERED,
    REBUILD,
    Built,
    Call,
    Global,
    Persistent,
    Raw,
    assemble,
    pickled,
    state_dict,
    tar_file,
    tar_members,
    torch_pickle,
    torch_tensor,
    write_torch_stream,
    write_torch_zip,
)

from jaxnst.weights.readers.pickles import unpickle


class Touch:
    """A real exploit: whoever unpickles it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def exploits(marker):
    """Pickles that make the marker, or try, by all the ways there are."""
    system = Call(Global("posix system"), (f"touch {marker}",))
    evaluate = Call(
        Global("builtins eval"), (f"__import__('os').mkdir({str(marker)!r})",)
    )
    empty = Call(ORDERED, ())
    code = f"touch {marker}".encode()
    dotted = b"\x8c\x0ctorch._utils\x8c\x25_rebuild_tensor_v2.__globals__.__len__\x93"
    for protocol in range(6):
        yield f"system, protocol {protocol}", pickle.dumps(Touch(marker), protocol)
    values = {
        "eval": evaluate,
        "Python 2's eval": Call(Global("__builtin__ eval"), evaluate.arguments),
        "exec as a method": Call(Global("builtins exec"), ("1", {})),
        "inside a dict": Call(ORDERED, ([["features.0.weight", system]],)),
        "inside a tensor": Call(REBUILD, (system, 0, (1,), (1,), False, empty)),
        "inside a size": Call(Global("torch Size"), ((evaluate,),)),
        "inside a parameter": Call(
            Global("torch._utils _rebuild_parameter"), (evaluate, True, empty)
        ),
        "inside a persistent id": Persistent(("storage", evaluate, "0", "cpu", 1)),
        "as a persistent id": Persistent(evaluate),
        "a module's source": Persistent(("module", Global("os system"), "a", "b")),
        "calls a string": Call("posix system", (f"touch {marker}",)),
        "calls a dict": Call(empty, ()),
        "calls a type": Call(FLOAT, ("i4",)),
        "calls a tensor": Call(torch_tensor("0", (1,)), ()),
        "import of a function's parts": Raw(dotted),
        "import of torch's own loader": Call(
            Global("torch.storage _load_from_bytes"), (Raw(b"C\x01x"),)
        ),
        "getattr": Call(Global("builtins getattr"), (empty, "__class__")),
        "BUILD with __setstate__": Built(empty, {"__setstate__": Global("os system")}),
        "BUILD of a dict's class": Built(empty, {"__class__": Global("os system")}),
        "BUILD of a function's code": Built(REBUILD, (None, {"__code__": evaluate})),
        "INST": Raw(b"(S'" + code + b"'\nios\nsystem\n"),
        "OBJ": Raw(b"(cos\nsystem\nS'" + code + b"'\no"),
        "NEWOBJ": Raw(b"cos\nsystem\n(V" + code + b"\nt\x81"),
        "NEWOBJ_EX": Raw(b"cos\nsystem\n(V" + code + b"\nt}\x92"),
        "extension registry": Raw(b"\x82\x01(V" + code + b"\ntR"),
        "text persistent id": Raw(b"P" + code + b"\n"),
    }
    for name, value in values.items():
        yield name, pickled(value)
        yield f"{name}, in a state dict", pickled({"features.0.weight": value})


HEAD = pickled(0x1950A86A20F9469CFC6C) + pickled(1001)
SMALL = state_dict(mini(NAMES[:3]))
SMALL_TAR, (SMALL_PICKLE, STORAGES) = tar_members(SMALL), torch_pickle(SMALL)


def places(code):
    """Files with a pickle wherever a reader takes one."""
    archive = io.BytesIO()
    write_torch_zip(archive, code, STORAGES)
    yield "zip", archive.getvalue()
    yield "stream", HEAD + pickled({}) + code
    yield "stream, first", code + HEAD[2:]
    yield "stream, second", HEAD[: len(HEAD) - len(pickled(1001))] + code
    yield "stream, third", HEAD + code
    yield "stream, last", HEAD + pickled({}) + SMALL_PICKLE + code
    for member in ("pickle", "storages", "tensors"):
        yield f"tar, {member}", tar_file(SMALL_TAR | {member: code})
        if member != "pickle":
            later = tar_file(SMALL_TAR | {member: pickled(1) + code})
            yield f"tar, {member}, second", later


def test_no_exploit_runs(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "x.pth"
    tried = 0
    for name, code in exploits(marker):
        for place, data in places(code):
            path.write_bytes(data)
            refusal(path)
            assert not marker.exists(), (name, place)
            tried += 1
    assert tried > 500


def test_the_exploits_are_real(tmp_path):
    marker = tmp_path / "marker"
    codes = dict(exploits(marker))
    for name in ("system, protocol 0", "system, protocol 4", "eval", "INST", "OBJ"):
        pickle.loads(codes[name])
        assert marker.exists(), name
        marker.unlink() if marker.is_file() else marker.rmdir()


@pytest.mark.parametrize("name", ["os system", "torch.nn Linear", "torch load", "a b"])
def test_a_refused_import_is_named(name):
    with pytest.raises(ValueError, match=f"imports {name.replace(' ', '.')}; open it"):
        unpickle(io.BytesIO(pickled(Global(name))))


def liars():
    """State dicts whose numbers are not true; each has one storage of 8 floats."""
    shape = (2, 4)
    yield "a long storage", torch_tensor("0", shape, length=2**40)
    yield "a negative storage", torch_tensor("0", shape, length=-8)
    yield "a longer type", torch_tensor("0", shape, storage=Global("torch LongStorage"))
    yield "a large shape", torch_tensor("0", (2**20, 2**20), length=8)
    yield "a repeated number", torch_tensor("0", (2**40,), length=8, strides=(0,))
    yield "a large stride", torch_tensor("0", shape, strides=(2**60, 1))
    yield "a huge stride", torch_tensor("0", shape, strides=(2**400, 1))
    yield "a negative stride", torch_tensor("0", shape, strides=(-4, 1))
    yield "a negative size", torch_tensor("0", (-2, -4), length=8)
    yield "a late offset", torch_tensor("0", shape, offset=1)
    yield "a negative offset", torch_tensor("0", shape, offset=-1)
    yield "few strides", torch_tensor("0", shape, strides=(1,))
    yield "a text for a shape", torch_tensor("0", (), strides="12", length=8)
    yield "no such storage", torch_tensor("1", shape)
    yield "no such type", torch_tensor("0", shape, storage=Global("torch QInt8Storage"))
    yield "a late view", torch_tensor("0", shape, view=(("v", 1, 8),))
    yield "an early view", torch_tensor("0", shape, view=(("v", -1, 8),))
    yield "an empty view", torch_tensor("0", shape, view=(("v", "x", 8),))


@pytest.mark.parametrize("write", [write_torch_zip, write_torch_stream])
def test_lies_about_sizes_are_found_before_memory_is_taken(write, tmp_path):
    path = tmp_path / "x.pth"
    for name, tensor in liars():
        write(path, pickled({"conv1_1.weight": tensor}), {"0": bytes(32)})
        message, memory = refusal_and_memory(path)
        assert "without gaps" not in message, name
        assert memory < 2e6, name


def test_lies_in_a_tar_archive_are_found(tmp_path):
    members = tar_members({"conv1_1.bias": np.ones(4, np.float32)})
    count = pickled((300, 200, Global("torch FloatTensor")))
    storage = pickled(1) + pickled((100, "cpu", FLOAT))
    for change in (
        {"storages": storage + struct.pack("<q", 2**40)},
        {"storages": storage + struct.pack("<q", 2**62)},
        {"storages": storage + struct.pack("<q", -60)},
        {"storages": storage + struct.pack("<q", -1)},
        {"storages": pickled(2**62)},
        {"tensors": pickled(1) + count + struct.pack("<ii", -1, 0) + bytes(99)},
        {"tensors": pickled(1) + count + struct.pack("<ii", 2**30, 0) + bytes(99)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 2**40, 1, 0)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 4, 2**40, 0)},
        {"tensors": pickled(1) + count + struct.pack("<ii3q", 1, 0, 4, 1, -3)},
    ):
        (tmp_path / "x").write_bytes(tar_file(members | change))
        message, memory = refusal_and_memory(tmp_path / "x")
        assert "without gaps" not in message, change
        assert memory < 2e6, change
    data = bytearray(tar_file(members))
    for size in (b"-0000001000\0", b"77777777777\0", b"\xff" * 12, b"x" * 12):
        data[124:136] = size
        (tmp_path / "x").write_bytes(data)
        refusal(tmp_path / "x")


def bombs():
    """Pickles that are small and take for ever, or all memory, when believed."""
    doubled = b")" + b"q\x00h\x00h\x00\x86" * 64
    yield "a tuple of 2^64, as a key", Raw(b"}" + doubled + b"Ns")
    yield "as a storage's key", Persistent(("storage", FLOAT, Raw(doubled), "cpu", 1))
    yield "as a list of keys", [Raw(doubled)]
    yield "as an import", Raw(doubled + doubled + b"\x93")
    yield "as a tensor", Call(REBUILD, Raw(doubled))
    yield "as itself", Raw(doubled)
    nested = b")" + b"\x85" * 3000
    yield "deep nesting", Raw(nested)
    yield "deep nesting, as a key", Raw(b"}" + nested + b"Ns")
    yield "a list in itself", Raw(b"]q\x00h\x00a")
    yield "many operations", Raw(b"N" * 1_000_000)
    yield "a late memo", Raw(b"Nr\xff\xff\xff\xff")
    yield "a long text", Raw(b"X\xff\xff\xff\xffabc")
    yield "longer bytes", Raw(b"\x8e" + struct.pack("<Q", 2**40) + b"abc")
    yield "a longer bytearray", Raw(b"\x96" + struct.pack("<Q", 2**40) + b"abc")
    yield "a large frame", Raw(b"\x95" + struct.pack("<Q", 2**63) + b"N")
    yield "a large integer", Raw(b"\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6)
    yield "a long decimal", Raw(b"L" + b"9" * 10**5 + b"L\n")
    copies = b"h\x00h\x01\x85R" * 800
    yield (
        "copies of a list",
        Raw(assemble(ORDERED) + b"q\x00]q\x01(" + b"U\x01aN\x86" * 400 + b"e" + copies),
    )
    yield "an empty stack", Raw(b"t")
    yield "marks without end", Raw(b"(" * 15_000)


def test_bombs_do_not_go_off(tmp_path):
    for name, value in bombs():
        write_torch_zip(tmp_path / "x.pth", pickled(value), STORAGES)
        assert refusal_and_memory(tmp_path / "x.pth")[1] < 3e7, name


@pytest.mark.parametrize("options", [{"compression": zipfile.ZIP_DEFLATED}, {}])
def test_a_zip_archive_is_stored_and_has_the_right_checksums(options, tmp_path):
    path = tmp_path / "x.pth"
    code, storages = torch_pickle(state_dict(mini()))
    write_torch_zip(path, code, storages, **options)
    if not options:
        data = bytearray(path.read_bytes())
        data[data.index(storages["8"]) + 5] ^= 4
        path.write_bytes(data)
    assert ("stored" if options else "checksum") in refusal(path)


def test_big_endian_tensors_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("x/data.pkl", pickled({}))
        archive.writestr("x/byteorder", "big")
    assert "little-endian" in refusal(tmp_path / "x")
