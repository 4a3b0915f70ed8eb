"""Files of the other formats that mean harm."""

import struct

import h5py
from networks import mini, refusal, refusal_and_memory
from writers import (
    field,
    varint,
    write_caffe_old,
    write_flaxmodels,
    write_keras_tf2,
    write_mat_packed,
)

from jaxnst.weights.readers import caffe, matconvnet


def test_hdf5_is_read_from_this_file_alone_and_never_at_a_false_size(tmp_path):
    path, other, key = tmp_path / "x.h5", tmp_path / "other.h5", "conv1_1/bias"
    write_flaxmodels(other, mini())
    layout = h5py.VirtualLayout((64,), "f4")
    layout[:] = h5py.VirtualSource(other, key, shape=(64,))
    outside = [(str(other), 0, 256)]
    for make in (
        lambda file: file.create_dataset(key, (2**20, 2**20), "f4", chunks=(64, 64)),
        lambda file: file.__setitem__(key, h5py.ExternalLink(other, key)),
        lambda file: file.__setitem__(key, h5py.SoftLink("/conv1_2/bias")),
        lambda file: file.create_dataset(key, (64,), "f4", external=outside),
        lambda file: file.create_virtual_dataset(key, layout),
        lambda file: file.create_dataset(key, data="text"),
        lambda file: file.create_dataset(key, data=h5py.Empty("f4")),
    ):
        write_flaxmodels(path, mini())
        with h5py.File(path, "r+") as file:
            del file[key]
            make(file)
        assert "for conv1_1, got no bias" in refusal(path)


def test_endless_lists_in_hdf5_are_found(tmp_path):
    path = tmp_path / "x.h5"
    write_keras_tf2(path, mini())
    data = path.read_bytes()
    texts = bytearray(data)  # its free space says that it takes no space
    start = data.index(b"GCOL")
    first = start + 16 + 16 + struct.unpack_from("<Q", data, start + 24)[0] + 7 & ~7
    assert struct.unpack_from("<HHI", data, first) == (0, 0, 0)
    struct.pack_into("<Q", texts, first + 8, 0)
    names = bytearray(data)  # its first free place says that it is the next one, too
    free, place = struct.unpack_from("<QQ", data, data.index(b"HEAP") + 16)
    struct.pack_into("<Q", names, place + free, free)
    for damaged, message in ((texts, "whole texts in HDF5"), (names, "endless one")):
        path.write_bytes(damaged)
        assert message in refusal(path)


def test_lies_in_other_formats_are_found(tmp_path, monkeypatch):
    path = tmp_path / "x"
    layer = field(4, b"conv1_1")
    blob = field(1, 2**63) + field(2, 2**63) + field(5, bytes(8))
    for data in (
        b"\0" * 99,
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(9),  # a field of 2^63 bytes
        b"\xff" * 99,  # an integer without end
        b"\x12\x04" + b"\x22",  # a layer that is cut
        field(2, layer + field(6, blob)),
        field(2, layer + field(6, field(7, field(1, varint(2**62))) + field(5, b""))),
        field(2, layer + field(6, field(5, b"123"))),
        field(2, layer + field(6, 7)),
        field(2, 7),
        struct.pack("<Q", 2**38) + b"{" + bytes(99),
        struct.pack("<Q", 49) + b'{"conv1_1.bias":{"dtype":"F32","shape":[2000000]',
        b"some text that is no file of weights",
    ):
        path.write_bytes(data)
        message, memory = refusal_and_memory(path)
        assert "without gaps" not in message, data
        assert memory < 2e6, data
    write_mat_packed(path, mini())
    monkeypatch.setattr(matconvnet, "LIMIT", 1000)
    assert "compressed bytes of MATLAB, got" in refusal(path)
    monkeypatch.setattr(caffe, "LIMIT", 10)
    write_caffe_old(path, mini())
    assert "at most 10 protobuf fields" in refusal(path)
