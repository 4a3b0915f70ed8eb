"""`jaxnst video` paints a video, an animated picture or a folder of frames."""

import argparse
import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from jaxnst.command.describe import (
    compile_timer,
    content_hash,
    first_line,
    make_manifest,
    write_manifest,
)
from jaxnst.command.flags import (
    Parser,
    add_look_flags,
    add_machine_flags,
    add_mask_flags,
    add_memory_flag,
    add_pictures,
    add_recipe_flags,
    add_run_flags,
    add_start_flags,
    painting_from,
    positive,
)
from jaxnst.command.reporter import Reporter, complain, say
from jaxnst.command.stylize import in_use
from jaxnst.disk import held, write_whole
from jaxnst.foreign import read_json, shown
from jaxnst.messages import gigabytes
from jaxnst.network.vgg import Backbone
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.memory import mask_bytes, usable_memory
from jaxnst.painting.multiscale import Options
from jaxnst.painting.plan import Stages, plan_run
from jaxnst.painting.stages import Progress
from jaxnst.pictures.files import load_image, save_image
from jaxnst.request.manifest import manifest_path, path_from
from jaxnst.request.painting import Painting
from jaxnst.request.read import (
    check_moving_masks,
    check_painting,
    mask_count,
    moving_masks,
    read_style,
)
from jaxnst.tiles import tile_mesh
from jaxnst.video.clip import RATE, Clip, Selection, frame_files, open_clip
from jaxnst.video.flow import FlowFiles, check_flow, measured_flow
from jaxnst.video.paint import FrameProgress, VideoOptions, paint_frames
from jaxnst.video.sound import lost_tracks
from jaxnst.video.store import BYTES, FolderStore
from jaxnst.video.threads import beside
from jaxnst.video.write import output_kind, write_clip
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_video_flags(p: Parser) -> None:
    """Add the flags of `video`."""
    p.usage = "%(prog)s CONTENT STYLE … -o FILE [options]"
    add_pictures(p, "a video, an animated picture, or a folder of frames")
    add, usual = p.add_argument, VideoOptions()
    out = "a video, an animated .webp or .gif, or a folder for frames"
    add("-o", "--out", type=Path, required=True, help=out)
    first = "where to begin: seconds, or h:mm:ss"
    add("--start", type=clock, default=Fraction(0), metavar="TIME", help=first)
    add("--end", type=clock, metavar="TIME", help="where to end")
    every = "paint one of N frames, each shown for longer"
    add("--every", type=positive, default=1, metavar="N", help=every)
    passes = "2: add a backward pass, which flickers less (default: 1)"
    add("--passes", type=int, choices=(1, 2), default=1, help=passes)
    add_run_flags(p, size=None, quality="normal")
    add_look_flags(p)
    add_mask_flags(p)
    add = p.group("frames")
    rate = f"frames per second of a folder (default: {RATE})"
    add("--rate", type=ratio, default=RATE, metavar="N", help=rate)
    steps = "steps of a frame that follows another (default: half of those of a scale)"
    add("--frame-steps", type=positive, metavar="N", help=steps)
    weight = f"how strongly frames hold to those before (default: {usual.weight:g})"
    add("--temporal-weight", type=float, default=usual.weight, metavar="X", help=weight)
    flow = "folder of flows in place of measured ones: 2-1.flo or 2-1.npz, 1-2.flo, …"
    add("--flow", type=Path, metavar="FOLDER", help=flow)
    kept = "keep OUT.state, the frames as floats, when the video is written"
    add("--keep-state", action="store_true", help=kept)
    full = "begin even if OUT.state may need more disk than is free"
    add("--force", action="store_true", help=full)
    add_start_flags(p)
    add_recipe_flags(p)
    add_machine_flags(p)
    add_memory_flag(p)


def clock(text: str) -> Fraction:
    """Seconds, from a text such as 2.5, 1:30 or 0:01:30.25."""
    parts = text.split(":")
    with contextlib.suppress(ValueError, ZeroDivisionError):
        found = sum(Fraction(x) * 60**i for i, x in enumerate(reversed(parts)))
        if len(parts) <= 3 and found >= 0 and "-" not in text:
            return Fraction(found)
    raise argparse.ArgumentTypeError(f"expected seconds or h:mm:ss, got {text!r}")


def ratio(text: str) -> Fraction:
    """A number of frames per second, such as 25 or 30000/1001."""
    with contextlib.suppress(ValueError, ZeroDivisionError):
        if 0 < Fraction(text) <= 1000:
            return Fraction(text)
    raise argparse.ArgumentTypeError(f"expected frames per second, got {text!r}")


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that is asked for: a painting of its frames, and which they are.

    Attributes:
        painting: How its frames are painted; its content is the source.
        out: Path of the result.
        clip: Its frames.
        selection: Which of the source they are.
        shape: Height and width of the result.
        passes: Through all frames.
        frame_steps: Of a frame that follows another, if a number was asked for.
        temporal_weight: See `VideoOptions.weight`.
        flow: Folder of flows.
    """

    painting: Painting
    out: Path
    clip: Clip
    selection: Selection
    shape: tuple[int, int]
    passes: int
    frame_steps: int | None
    temporal_weight: float
    flow: Path | None

    @property
    def state(self) -> Path:
        """Folder of the painted frames, until the video is written."""
        return self.out.with_name(self.out.name + ".state")

    @cached_property
    def paintings(self) -> list[Painting]:
        """The painting of each frame: one file of a folder, and all other files."""
        painting, numbers = self.painting, self.clip.numbers
        masks = (x for x in painting.paths if x != painting.content)
        folders = {x: frame_files(x) for x in masks if x.is_dir()}
        for path, found in folders.items():
            if len(found) <= numbers[-1]:
                raise ValueError(
                    f"expected a mask for each frame in {path}, of which the last is "
                    f"the {numbers[-1] + 1}th, got {len(found)}"
                )
        if not folders:
            return [painting] * len(numbers)
        of = lambda number: lambda x: folders[x][number] if x in folders else x
        return [painting.map(of(number)) for number in numbers]

    @property
    def masks_change(self) -> bool:
        """Whether there is a folder of masks."""
        return self.paintings[0] != self.painting


def video_from(args: argparse.Namespace) -> Video:
    """What the flags ask for, checked."""
    painting = painting_from(args, args.content, args.style)
    if not 0 <= args.temporal_weight < math.inf:
        raise ValueError(
            f"expected --temporal-weight of at least 0, got {args.temporal_weight}"
        )
    kind, selection = output_kind(args.out), Selection(args.start, args.end, args.every)
    if args.flow is None:
        check_flow()
    clip = open_clip(args.content, selection, rate=args.rate)
    if args.rate != RATE and clip.kind != "folder":
        raise ValueError(
            f"expected --rate for a folder of frames, got it for {args.content}, which "
            "has its own; leave it out"
        )
    shape = painting.shape(clip.shape)
    if kind == "video":  # the codecs need even sides
        shape = max(2, shape[0] // 2 * 2), max(2, shape[1] // 2 * 2)
    video = Video(
        painting=painting,
        out=args.out,
        clip=clip,
        selection=selection,
        shape=shape,
        passes=args.passes,
        frame_steps=args.frame_steps,
        temporal_weight=args.temporal_weight,
        flow=args.flow,
    )
    check_video(video, force=args.force)
    if clip.color != clip.source:
        complain(f"{clip.path} is {clip.source.name}; it is painted as SDR in BT.709")
    if kind == "video" and (lost := lost_tracks(clip)):
        complain(f"sound tracks of unknown formats, which are left out: {lost}")
    return video


def check_video(video: Video, *, force: bool) -> None:
    """Raise a ValueError if a video cannot be painted, whatever the memory."""
    painting, out = video.painting, video.out
    if out.resolve() in {path.resolve() for path in painting.paths}:
        raise ValueError(f"expected an output that is none of the inputs, got {out}")
    if painting.weights != "auto":
        registry.locate(painting.weights)
    for line in check_painting(video.paintings[0], video.shape):
        complain(line)
    paintings = video.paintings if video.masks_change else video.paintings[:1]
    check_moving_masks(paintings, video.shape)
    needed, free = state_bytes(video)
    if needed > free and not force:
        raise ValueError(
            f"expected {gigabytes(needed)} of free disk for the painted frames in "
            f"{video.state}, got {gigabytes(free)}; free some, paint less (--end, "
            "--every, --size), or pass --force to begin anyway"
        )
    if video.flow is not None:
        FlowFiles(video.flow, video.clip.numbers)


def video_command(args: argparse.Namespace) -> int:
    """Paint a video; return the exit code."""
    video = video_from(args)
    shape, recipe, out = video.shape, video.painting.recipe, video.out
    memory = usable_memory() if args.memory is None else args.memory
    stages = plan_run(
        shape,
        recipe,
        memory - mask_bytes(shape, recipe, mask_count(video.paintings[0])),
    )
    name, reason = registry.choose(args.weights, quiet=args.quiet)
    weights = registry.locate(name)
    backbone = registry.load_backbone(weights)
    video = replace(video, painting=replace(video.painting, weights=name))
    found = make_manifest(video.painting, shape, sha256(weights))
    about = describe_video(video)
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(held(out)):
            raise ValueError(in_use(out))
        record = found.identity | {"video": about}
        painted = stack.enter_context(open_state(video.state, record))
        tell = partial(say, quiet=args.quiet)
        height, width = shape
        size = f"{len(video.clip)} frames of {width} x {height} px"
        again = f"; {painted} are painted" if painted else ""
        tell(f"{size}, {float(video.clip.end):.2f} s{again}")
        tell(first_line(name, reason))
        needed, free = map(gigabytes, state_bytes(video))
        where = f"painted frames take up to {needed} of disk, {free} are free"
        tell(f"{where}; the newest frame is {video.state / PREVIEW}")
        began = time.perf_counter()
        try:
            with (
                compile_timer() as compiling,
                VideoReporter(video, painted, quiet=args.quiet) as reporter,
            ):
                firsts = paint_video(video, stages, backbone, reporter)
        except FloatingPointError as error:
            complain(f"error: {error}; the frames before it are painted")
            return 3
        except OSError as error:
            kept = f"painted frames are kept in {video.state}; rerun the command"
            raise OSError(f"{error}; {kept}") from error
        seconds = time.perf_counter() - began
        spent = {"all": round(seconds, 2)}
        spent["compile"] = round(sum(x for _, x in compiling), 2)
        about["shots"] = [video.clip.numbers[i] + 1 for i in firsts]
        manifest = found.beside(out) | {"video": about, "status": "done"}
        manifest |= {"resumed": painted, "seconds": spent}
        write_manifest(manifest_path(out), manifest)
        if not args.keep_state:
            shutil.rmtree(video.state, ignore_errors=True)
    tell(f"wrote {out} in {seconds:.0f} s")
    return 0


def state_bytes(video: Video) -> tuple[int, int]:
    """How much of the disk the frames that are not painted may need; what is free."""
    state, (height, width) = video.state, video.shape
    whole = height * width * BYTES[video.passes] * len(video.clip)
    there = sum(x.stat().st_size for x in state.glob("pass*.npz"))
    folder = next(x for x in state.absolute().parents if x.is_dir())
    return max(0, whole - there), shutil.disk_usage(folder).free


def describe_video(video: Video) -> dict[str, Any]:
    """What is painted of a source, and how frames follow each other, as JSON."""
    flow, selection = video.flow, video.selection
    text = lambda x: None if x is None else str(x)
    versions = {}
    for package in ("av", "opencv-python-headless"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "start": text(selection.start),
        "end": text(selection.end),
        "every": selection.every,
        "frames": len(video.clip),
        "rate": text(video.clip.rate),
        "passes": video.passes,
        "frame_steps": video.frame_steps,
        "temporal_weight": video.temporal_weight,
        "flow": flow and path_from(video.out.parent, flow),
        "flow_sha256": flow and content_hash(flow),
        "versions": versions,
    }


RECORD, PREVIEW, LOCK = "run.json", "newest.png", "lock"
"""Files in the folder of a state, beside the frames."""


@contextlib.contextmanager
def open_state(folder: Path, record: dict[str, Any]) -> Iterator[int]:
    """Make the folder of the painted frames, or go on with the one that is there.

    Yields how many frames are painted; if none is at the end, the folder is deleted. A
    ValueError says if it is that of another run, or if another process is at work on
    it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ValueError(
            f"expected {folder} for this run alone, got another process that paints "
            "there; wait for it, or choose another output"
        ) from error
    ours = False
    try:
        path = folder / RECORD
        if path.is_file():
            before = read_json(path)
            if not isinstance(before, dict):
                raise ValueError(
                    f"expected the settings of a run in {path}, got {shown(before)}; "
                    f"delete {folder}"
                )
            if other := difference(before, record):
                raise ValueError(
                    f"expected the frames of this run in {folder}, got those of one "
                    f"with {other}; repeat the command that painted them, or delete "
                    "the folder"
                )
            ours = True
        else:
            if any(x.name != LOCK and x.name[0] != "." for x in folder.iterdir()):
                raise ValueError(
                    f"expected {folder} for painted frames, got a folder with other "
                    "files; choose another output"
                )
            ours = True
            with write_whole(path) as file:
                file.write(json.dumps(record).encode())
        yield len(list(folder.glob("pass*.npz")))
    finally:
        if ours and not any(folder.glob("pass*.npz")):
            shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def paint_video(
    video: Video, stages: Stages, backbone: Backbone, reporter: "VideoReporter"
) -> list[int]:
    """Paint and write a video; return the first frame of each shot."""
    painting, clip, seen = video.paintings[0], video.clip, (*video.shape, 3)
    recipe, start, flow = painting.recipe, painting.start, video.flow
    styles = [read_style(style, seen, recipe) for style in painting.styles]
    masks = moving_masks(video.paintings, styles, seen)
    firsts = set()

    def on_frame(progress: FrameProgress) -> None:
        firsts.add(progress.frame.first)
        reporter.frame(progress)

    options = VideoOptions(
        picture=Options(
            blend=None if painting.blend is None else jnp.array(painting.blend),
            masks=masks(0),
            init=None if start is None else load_image(start, size=max(seen)),
            stages=stages,
            mesh=tile_mesh(),
            on_chunk=reporter.chunk,
        ),
        masks=masks if video.masks_change else None,
        steps=video.frame_steps,
        weight=video.temporal_weight,
        flows=measured_flow if flow is None else FlowFiles(flow, clip.numbers),
        passes=video.passes,
        store=FolderStore(video.state),
        on_frame=on_frame,
    )
    key, styles = jax.random.key(painting.seed), [] if painting.labels else styles
    given = backbone, clip.frames(video.shape), styles, recipe
    with beside(partial(write_clip, video.out, clip)) as write:
        for image in paint_frames(*given, key=key, options=options):
            write(np.asarray(image))
        reporter.move(reporter.total, "writing")
    return sorted(firsts)


class VideoReporter(Reporter):
    """What happens while a video is painted: progress, the newest frame, interruption.

    The unit of its bar is a frame.
    """

    def __init__(self, video: Video, found: int, *, quiet: bool):
        self.count, self.video = len(video.clip), video
        total = self.count * video.passes
        super().__init__(total, min(found, total), quiet=quiet)
        self.done, self.new, self.steps_taken = 0, 0, False
        self.clock: tuple[float, int] | None = None

    def chunk(self, progress: Progress) -> None:
        """Report, or stop, between two launches of a frame's steps."""
        self.steps_taken = True
        size, stage = max(progress.stage.shape), progress.stage
        self.show(f"{size} px {progress.taken}/{stage.steps}")
        self.check()

    def check(self) -> None:
        """Stop if the run was interrupted."""
        if self.interrupted:
            self.stop(
                f"painted up to {self.place(self.done)}; rerun the command to paint "
                "the rest"
                if self.done
                else "no frame is painted yet"
            )

    def frame(self, progress: FrameProgress) -> None:
        """Report a frame, and show it if it is new."""
        self.done = (progress.number - 1) * self.count
        self.done += (
            progress.index + 1 if progress.number == 1 else self.count - progress.index
        )
        self.show("")
        self.check()
        if not self.steps_taken:
            return
        self.steps_taken = False
        save_image(self.video.state / PREVIEW, progress.image)
        now = time.monotonic()
        self.new += 1
        if self.new == 2:  # both before compile
            self.clock = now, self.done
        if self.line_is_due(at_end=self.done == self.total):
            line = self.place(self.done)
            began, begun = self.clock or (now, self.done)
            if self.done > begun:
                each = (now - began) / (self.done - begun)
                left = each * (self.total - self.done)
                line += f", {each:.1f} s each, about {left:.0f} s left"
            say(line)

    def show(self, place: str) -> None:
        """Move the bar."""
        self.move(self.done, self.place(min(self.done + 1, self.total)), place)

    def place(self, number: int) -> str:
        """Where a frame of all passes is, in words."""
        passed, index = divmod(number - 1, self.count)
        which = f"pass {passed + 1}, " if self.video.passes > 1 else ""
        return f"{which}frame {index + 1}/{self.count}"
