"""Simulate grids on 1 to 1,024 accelerators, with equally many pictures for each.

    python scripts/measure/grid_scaling.py [--pictures N] [--picture-seconds S] …

A machine has eight accelerators. It reads weights and programs from a storage that all
machines share, compiles or fetches its programs, paints its share batch by batch, and
writes pictures to the storage. Machines do not communicate in between. Every batch
takes a random factor longer. The defaults are assumptions, none measured on an
accelerator; set your own.

Prints the seconds of the slowest machine by activity, the pictures per second and the
efficiency. Takes a second.
"""

import argparse
import math
import random

MACHINE = 8
"""Accelerators of a machine."""


def simulate(args: argparse.Namespace, accelerators: int) -> dict[str, float]:
    """Seconds of the slowest machine, by activity."""
    machines = math.ceil(accelerators / MACHINE)
    devices = min(accelerators, MACHINE)
    pictures = args.pictures * accelerators
    stream = min(args.machine_bandwidth, args.storage_bandwidth / machines)
    reading = (args.weights_mb + args.picture_mb * args.sources * 2) / stream
    hashing = args.hash_seconds * args.sources * 2  # every machine hashes all sources
    planning = args.plan_seconds * pictures
    rng = random.Random(accelerators)
    batches = math.ceil(args.pictures / args.batch)
    painting = max(
        sum(
            args.batch * args.picture_seconds * max(1, rng.gauss(1, args.jitter))
            for _ in range(batches)
        )
        for _ in range(machines)
    )
    # One thread saves while the next batch is painted; the last batch is waited for.
    each = args.save_seconds + args.picture_mb / stream
    saving = devices * args.batch * each
    saving += max(0, devices * args.pictures * each - painting)
    return {
        "start": reading + hashing + planning + args.meet_seconds,
        "compile": args.compile_seconds,
        "paint": painting,
        "save": saving,
        "sheet": min(pictures, args.sheet_pictures) * args.thumbnail_seconds,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value, text in (
        ("pictures", 256, "pictures for each accelerator"),
        ("sources", 200, "contents and styles, each"),
        ("batch", 64, "pictures on an accelerator at a time"),
        ("picture-seconds", 2.0, "time of a picture in a full batch"),
        ("jitter", 0.05, "relative deviation of the time of a batch"),
        ("compile-seconds", 60.0, "time to compile all scales"),
        ("weights-mb", 31.0, "size of the weights file"),
        ("picture-mb", 0.5, "size of a picture file"),
        ("machine-bandwidth", 1000.0, "MB/s between a machine and the storage"),
        ("storage-bandwidth", 10000.0, "MB/s of the storage"),
        ("hash-seconds", 0.005, "time to hash a source and read its header"),
        ("plan-seconds", 1e-4, "time to plan, name and look for a picture"),
        ("meet-seconds", 5.0, "time to start the processes and synchronise once"),
        ("save-seconds", 0.05, "time to encode a picture and its manifest"),
        ("thumbnail-seconds", 0.01, "time to read a picture for the contact sheet"),
        ("sheet-pictures", 4096, "pictures on the contact sheet, at most"),
    ):
        parser.add_argument(
            f"--{name}", type=type(value), default=value, help=f"{text} ({value})"
        )
    args = parser.parse_args()
    print(
        "accelerators machines  pictures   start compile   paint    save   sheet"
        "   pictures/s  efficiency"
    )
    first = None
    for accelerators in (1, 8, 64, 256, 1024):
        spent = simulate(args, accelerators)
        rate = args.pictures * accelerators / sum(spent.values())
        first = first or rate
        print(
            f"{accelerators:>12} {math.ceil(accelerators / MACHINE):>8} "
            f"{args.pictures * accelerators:>9}"
            + "".join(f" {seconds:>7.0f}" for seconds in spent.values())
            + f" {rate:>12.2f} {rate / accelerators / first:>11.0%}"
        )


if __name__ == "__main__":
    main()
