"""Files that are cut or have a wrong bit."""

import numpy as np
from networks import check_same, mini
from oracle import NAMES
from writers import every_format

from jaxnst.weights.readers import read


def attempt(path, data, wanted=None):
    """Read damaged bytes: a ValueError of one line, or a whole network."""
    path.write_bytes(data)
    try:
        params = read(path).params
    except ValueError as error:
        message = str(error)
        assert f"{path} is not a VGG-19 weights file" in message
        assert len(message.splitlines()) == 1
        assert len(message) < 1000
        return False
    for conv in params.values():
        assert all(array.dtype == np.float32 for array in conv.values())
    if wanted:
        check_same(params, wanted)
    return True


@every_format
def test_a_cut_file_is_refused(write, tmp_path):
    params = mini(NAMES[:3])
    write(tmp_path / "whole", params)
    data = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(2)
    lengths = {0, 1, 4, 8, 16, 64, 127, 128, 136, 257, 512, 513, len(data) // 2}
    lengths |= set(rng.integers(0, len(data) // 2, 20).tolist())
    for length in sorted(lengths):
        assert not attempt(tmp_path / "x", data[:length]), length
    ends = {1, 2, 7, 8, 22, 64, 512} | set(rng.integers(0, len(data) // 2, 20).tolist())
    for length in sorted(ends):  # may cut what is not needed, such as a tar's padding
        attempt(tmp_path / "x", data[:-length], params)


@every_format
def test_a_wrong_bit_is_no_crash(write, tmp_path):
    write(tmp_path / "whole", mini(NAMES[:3]))
    data = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        attempt(tmp_path / "x", bytes(damaged))
