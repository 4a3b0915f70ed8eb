"""`jaxnst video` paints a video, an animated picture or a folder of frames."""

import argparse
import contextlib
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import jax

from jaxnst.checks import check_installed
from jaxnst.command import describe, flags, stylize
from jaxnst.command.reporter import Reporter, complain, place_of, say
from jaxnst.foreign import read_json, write_json
from jaxnst.messages import gigabytes
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.memory import mask_bytes
from jaxnst.painting.plan import plan_run
from jaxnst.painting.stages import Progress
from jaxnst.painting.timing import TimeLeft
from jaxnst.pictures.files import save_image
from jaxnst.request import read
from jaxnst.request.manifest import manifest_path, path_from
from jaxnst.request.painting import Painting, Run
from jaxnst.video.clip import RATE, Clip, Selection, frame_files, open_clip
from jaxnst.video.flow import FlowFiles
from jaxnst.video.paint import FrameProgress, VideoOptions, paint_frames
from jaxnst.video.sound import lost_tracks
from jaxnst.video.store import BYTES, FolderStore
from jaxnst.video.write import output_kind, write_clip
from jaxnst.weights import registry


def add_flags(p: flags.Parser) -> None:
    """Add the flags of `video`."""
    p.set_defaults(call=video_command)
    p.usage = "%(prog)s CONTENT STYLE … -o FILE [options]"
    flags.add_pictures(p, "a video, an animated picture, or a folder of frames")
    add, usual = p.add_argument, VideoOptions()
    out = "a video, an animated .webp or .gif, or a folder for frames"
    add("-o", "--out", type=Path, required=True, help=out)
    first = "where to begin: seconds, or h:mm:ss"
    add("--start", type=clock, default=Fraction(0), metavar="TIME", help=first)
    add("--end", type=clock, metavar="TIME", help="where to end")
    every = "paint only every Nth frame, and show it N times as long"
    add("--every", type=flags.positive, default=1, metavar="N", help=every)
    passes = "2: add a backward pass, which flickers less (default: 1)"
    add("--passes", type=int, choices=(1, 2), default=1, help=passes)
    flags.add_run_flags(p, size=None, quality="normal")
    flags.add_look_flags(p)
    flags.add_mask_flags(p, faces=False)
    add = p.add_argument_group("frames").add_argument
    rate = f"frames per second of a folder (default: {RATE})"
    add("--rate", type=ratio, default=RATE, metavar="N", help=rate)
    steps = (
        "steps of later frames of a shot (default: half the steps of the last size; "
        "painterly takes none beyond 256 px)"
    )
    add("--frame-steps", type=flags.positive, metavar="N", help=steps)
    weight = f"weight of the temporal loss (default: {usual.weight:g})"
    add("--temporal-weight", type=float, default=usual.weight, metavar="X", help=weight)
    flow = "folder of flows to use, not measure: 2-1.flo or 2-1.npz, 1-2.flo, …"
    add("--flow", type=Path, metavar="FOLDER", help=flow)
    kept = "keep OUT.state, the painted frames as floats, after the video is written"
    add("--keep-state", action="store_true", help=kept)
    full = "begin even if OUT.state may need more disk space than is free"
    add("--force", action="store_true", help=full)
    flags.add_recipe_flags(p)
    flags.add_machine_flags(p, memory=True)


@flags.expecting("a time, such as 2.5 or 1:30")
def clock(text: str) -> Fraction:
    """Seconds, from a text such as 2.5, 1:30 or 0:01:30.25."""
    parts = text.split(":")
    if len(parts) > 3 or "-" in text:
        raise ValueError
    return Fraction(sum(Fraction(x) * 60**i for i, x in enumerate(reversed(parts))))


@flags.expecting("a number of frames per second, such as 25")
def ratio(text: str) -> Fraction:
    """A number of frames per second, such as 25 or 30000/1001."""
    if not 0 < Fraction(text) <= 1000:
        raise ValueError
    return Fraction(text)


@dataclass(frozen=True)
class Video:
    """A video to paint: a painting, and the clip that is its content."""

    painting: Painting  # a folder of masks in it has one for each frame
    clip: Clip
    shape: tuple[int, int]  # of the result
    run: Run
    options: VideoOptions  # how frames follow each other

    @property
    def state(self) -> Path:
        """Folder of the painted frames, until the video is written."""
        return self.run.out.with_name(self.run.out.name + ".state")

    @cached_property
    def paintings(self) -> list[Painting]:
        """The painting of each frame; only one if no mask changes."""
        painting, numbers = self.painting, self.clip.numbers
        folders = {x: frame_files(x) for x in painting.paths if x.is_dir()}
        folders.pop(painting.content, None)
        for path, found in folders.items():
            if len(found) <= numbers[-1]:
                raise ValueError(
                    f"{path} has {len(found)} masks for {numbers[-1] + 1} frames; add "
                    "the others, or stop earlier with --end"
                )
        if not folders:
            return [painting]
        of = lambda number: lambda x: folders[x][number] if x in folders else x
        return [painting.map(of(number)) for number in numbers]

    def disk(self) -> tuple[int, int]:
        """Bytes that unpainted frames may need on disk, and bytes that are free."""
        height, width = self.shape
        whole = height * width * BYTES[self.options.passes] * len(self.clip)
        there = sum(x.stat().st_size for x in self.state.glob("pass*.npz"))
        folder = next(x for x in self.state.absolute().parents if x.is_dir())
        return max(0, whole - there), shutil.disk_usage(folder).free


def video_from(args: argparse.Namespace) -> Video:
    """The video that the flags ask for; a ValueError if it cannot be painted."""
    painting = flags.painting_from(args, args.content, args.style)
    run, weight = flags.run_from(args, args.out), args.temporal_weight
    if not 0 <= weight < math.inf:
        raise ValueError(f"--temporal-weight is {weight}; give a number of at least 0")
    kind, selection = output_kind(run.out), Selection(args.start, args.end, args.every)
    if args.flow is None:
        check_installed("cv2", "measuring the flow", "video")
    clip = open_clip(args.content, selection, rate=args.rate)
    if args.rate != RATE and clip.kind != "folder":
        raise ValueError(
            f"{args.content} has a rate of its own; leave --rate out, which is for a "
            "folder of frames"
        )
    shape = painting.shape(clip.shape)
    if kind == "video":  # the codecs need even sides
        shape = max(2, shape[0] // 2 * 2), max(2, shape[1] // 2 * 2)
    options = VideoOptions(
        steps=args.frame_steps,
        weight=weight,
        flows=None if args.flow is None else FlowFiles(args.flow, clip.numbers),
        passes=args.passes if painting.recipe.paints else 1,
    )
    video = Video(painting, clip, shape, run, options)
    stylize.check_inputs_stay([run.out], painting)
    notes = read.check_painting(video.paintings[0], shape)
    read.check_moving_masks(video.paintings, shape)
    needed, free = video.disk()
    if needed > free and not args.force:
        raise ValueError(
            f"the painted frames may take {gigabytes(needed)} in {video.state}, but "
            f"only {gigabytes(free)} are free there; free some space, paint less "
            "(--end, --every, --size), or pass --force to begin anyway"
        )
    if clip.source.shown != clip.source:
        notes += [f"{clip.path} is {clip.source.name}; it is painted as SDR in BT.709"]
    if kind == "video" and (lost := lost_tracks(clip)):
        notes += [f"sound tracks of unknown formats, which are left out: {lost}"]
    for note in notes:
        complain(note)
    return video


def describe_video(args: argparse.Namespace, video: Video) -> dict[str, Any]:
    """The painted part of the source, and the options of frames, as JSON."""
    return {
        "start": str(args.start),
        "end": args.end and str(args.end),
        "every": args.every,
        "frames": len(video.clip),
        "rate": str(video.clip.rate),
        "passes": video.options.passes,
        "frame_steps": args.frame_steps,
        "temporal_weight": args.temporal_weight,
        "flow": args.flow and path_from(video.run.out.parent, args.flow),
        "flow_sha256": args.flow and describe.content_hash(args.flow),
    }


def video_command(args: argparse.Namespace) -> int:
    """Paint a video; return the exit code."""
    video, tell = video_from(args), partial(say, quiet=args.quiet)
    shape, out, about = video.shape, video.run.out, describe_video(args, video)
    (painting,) = stylize.with_networks([video.painting], quiet=args.quiet)
    found = describe.make_manifest(painting, shape)
    # Packages on which only videos depend.
    used = [x for x in distributions() if x.name == "av" or "opencv" in x.name]
    versions = found.versions | {x.name: x.version for x in used}
    state = open_state(video.state, found.identity | {"video": about})
    with stylize.reserved_path(out), state as painted:
        began = time.perf_counter()
        again = f"; {painted} are painted" if painted else ""
        size = f"{len(video.clip)} frames of {shape[1]} x {shape[0]} px"
        tell(f"{size}, {float(video.clip.end):.2f} s{again}")
        needed, free = map(gigabytes, video.disk())
        where = f"painted frames take up to {needed} on disk, {free} are free"
        newest = f"; the newest frame is {video.state / PREVIEW}"
        tell(where + newest * painting.recipe.paints)
        reporter = VideoReporter(video, painted)
        try:
            with describe.compile_timer() as compiling, reporter:
                paint_video(video, painting.network, reporter)
        except FloatingPointError as error:
            complain(f"error: {error}; the frames before it are painted")
            return 3
        except OSError as error:
            kept = f"painted frames are kept in {video.state}; rerun the command"
            raise OSError(f"{error}; {kept}") from error
        seconds = round(time.perf_counter() - began, 2)
        spent = {"all": seconds, "compile": round(sum(x for _, x in compiling), 2)}
        about["shots"] = [video.clip.numbers[i] + 1 for i in sorted(reporter.firsts)]
        done = {"video": about, "status": "done", "resumed": painted, "seconds": spent}
        manifest = replace(found, versions=versions).beside(out) | done
        write_json(manifest_path(out), manifest)
        if not args.keep_state:
            shutil.rmtree(video.state, ignore_errors=True)
    tell(f"wrote {out} in {seconds:.0f} s")
    return 0


RECORD, PREVIEW = "run.json", "newest.png"
"""Files in the folder of a state, beside the frames."""


@contextlib.contextmanager
def open_state(folder: Path, record: dict[str, Any]) -> Iterator[int]:
    """Make or reuse the folder of a run; yields the number of painted frames.

    If there are no painted frames at the end, the folder is deleted.
    """
    path = folder / RECORD
    if path.is_file():
        before = read_json(path)
        if not isinstance(before, dict):
            raise ValueError(f"{path} holds no settings of a run; delete {folder}")
        if other := difference(before, record):
            raise ValueError(
                f"{folder} has the frames of a run with {other}; repeat the command "
                "that painted them, or delete the folder"
            )
    elif folder.exists() and any(x.name[0] != "." for x in folder.iterdir()):
        raise ValueError(f"{folder} has other files in it; choose another output")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_json(path, record)
        yield len(list(folder.glob("pass*.npz")))
    finally:
        if not any(folder.glob("pass*.npz")):
            shutil.rmtree(folder, ignore_errors=True)


def paint_video(video: Video, network: str, reporter: "VideoReporter") -> None:
    """Paint and write a video."""
    shape, paintings = video.shape, video.paintings
    painting, recipe = paintings[0], paintings[0].recipe
    kept = mask_bytes(shape, recipe, read.mask_count(painting))
    stages = plan_run(shape, recipe, video.run.usable_memory - kept)
    styles = [read.read_style(x, (*shape, 3), recipe) for x in painting.styles]
    masks = read.moving_masks(paintings, styles, (*shape, 3))
    hooks = {"stages": stages, "on_chunk": reporter.chunk}
    options = replace(
        video.options,
        picture=stylize.read_options(painting, masks(0), max(shape), hooks),
        masks=masks if len(paintings) > 1 else None,
        store=FolderStore(video.state),
        on_frame=reporter.frame,
    )
    backbone = registry.load_backbone(network)
    given = backbone, video.clip.frames(shape), [] if painting.labels else styles
    key = jax.random.key(painting.seed)
    painted = paint_frames(*given, recipe, key=key, options=options)
    write_clip(video.run.out, video.clip, painted)


class VideoReporter(Reporter):
    """Shows which frame is painted, and saves the newest one as a preview."""

    def __init__(self, video: Video, found: int):
        self.video, self.count = video, len(video.clip)
        total = self.count * video.options.passes
        super().__init__(total, min(found, total), quiet=video.run.quiet)
        self.done, self.new, self.is_new = 0, 0, False
        self.firsts: set[int] = set()  # of the shots

    def chunk(self, progress: Progress) -> None:
        """Report, or stop, between two launches of a frame's steps."""
        self.is_new = True
        self.tell(place_of(progress))

    def frame(self, progress: FrameProgress) -> None:
        """Report a frame, and show it if it is new."""
        self.firsts.add(progress.frame.first)
        first, index = progress.number == 1, progress.index
        self.done = index + 1 if first else 2 * self.count - index
        self.tell("", at_end=self.done == self.total)
        if not self.is_new:
            return
        self.is_new, self.new = False, self.new + 1
        save_image(self.video.state / PREVIEW, progress.image)
        if self.new == 2:  # both compile, so the time left is measured from here on
            self.left = TimeLeft()

    def tell(self, text: str, *, at_end: bool = False) -> None:
        """Move the bar, or stop if the run was interrupted."""
        place = self.place(min(self.done + 1, self.total))
        self.show(self.done, place, text, at_end=at_end)
        if self.interrupted:
            painted = f"painted up to {self.place(self.done)}; rerun to paint the rest"
            self.stop(painted if self.done else "no frame is painted yet")

    def place(self, number: int) -> str:
        """Pass and frame as text; `number` counts the frames of all passes, from 1."""
        passed, index = divmod(number - 1, self.count)
        which = f"pass {passed + 1}, " if self.total > self.count else ""
        return f"{which}frame {index + 1}/{self.count}"
