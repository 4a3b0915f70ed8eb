"""`jaxnst video` paints a video, an animated picture or a folder of frames."""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp

from jaxnst.command.flags import (
    Files,
    add_mask_flags,
    add_recipe_flags,
    add_run_flags,
    byte_count,
    numbers,
    one_file,
    one_name,
    positive,
    recipe_from,
    same_names,
)
from jaxnst.command.manifest import (
    SAME,
    compile_timer,
    first_line,
    make_manifest,
    manifest_path,
    path_from,
    write_manifest,
)
from jaxnst.command.masks import (
    check_masks,
    check_moving_masks,
    mask_files,
    moving_masks,
    read_style,
)
from jaxnst.command.reporter import Reporter, complain, say
from jaxnst.command.request import STARTS, MaskFiles, StylizeRequest
from jaxnst.command.stylize import in_use
from jaxnst.disk import held, write_whole
from jaxnst.foreign import read_json, shown
from jaxnst.messages import gigabytes
from jaxnst.network.vgg import Backbone
from jaxnst.objective import check_blend
from jaxnst.painting.checkpoint import difference
from jaxnst.painting.memory import mask_bytes, usable_memory
from jaxnst.painting.multiscale import Options
from jaxnst.painting.plan import plan_run
from jaxnst.painting.scales import content_size, style_shape
from jaxnst.painting.stages import Progress
from jaxnst.pictures.files import image_shape, load_image, save_image
from jaxnst.pictures.geometry import fit_shape
from jaxnst.tiles import tile_mesh
from jaxnst.video.clip import RATE, Clip, Selection, frame_files, open_clip
from jaxnst.video.flow import FlowFiles, check_flow
from jaxnst.video.paint import FrameProgress, VideoOptions, paint_frames
from jaxnst.video.sound import lost_tracks
from jaxnst.video.store import BYTES, FolderStore
from jaxnst.video.write import output_kind, write_clip
from jaxnst.weights import registry
from jaxnst.weights.format import sha256


def add_video_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of `video`."""
    add, usual = p.add_argument, VideoOptions()
    source = "a video, an animated picture, or a folder of frames"
    add("content", type=one_file, metavar="INPUT", help=source)
    styles = "one or more pictures that give the style; none if regions have them all"
    add("style", type=Path, nargs="*", action=Files, help=styles)
    out = "a video, an animated .webp or .gif, or a folder for frames"
    add("-o", "--out", type=Path, required=True, help=out)
    add_run_flags(p, size=None, quality="normal")
    first = "where to begin: seconds, or h:mm:ss"
    add("--start", type=clock, default=Fraction(0), metavar="TIME", help=first)
    add("--end", type=clock, metavar="TIME", help="where to end")
    every = "paint one of N frames, each shown for longer"
    add("--every", type=positive, default=1, metavar="N", help=every)
    rate = f"frames per second of a folder (default: {RATE})"
    add("--rate", type=ratio, default=RATE, metavar="N", help=rate)
    passes = "2: go through the video once more, backward"
    add("--passes", type=int, choices=(1, 2), default=1, help=passes)
    steps = "steps of a frame that follows another (default: half of those of a scale)"
    add("--frame-steps", type=positive, metavar="N", help=steps)
    weight = f"how strongly frames hold to those before (default: {usual.weight:g})"
    add("--temporal-weight", type=float, default=usual.weight, metavar="F", help=weight)
    flow = "folder of flows in place of measured ones: 2-1.flo or 2-1.npz, 1-2.flo, …"
    add("--flow", type=Path, metavar="FOLDER", help=flow)
    kept = "keep OUT.state, the frames as floats, when the video is written"
    add("--keep-state", action="store_true", help=kept)
    full = "begin even if OUT.state may need more disk than is free"
    add("--force", action="store_true", help=full)
    add("--blend", type=numbers, help="a weight for each style: W,W,…")
    start = "start image of the first frame: content, noise, style or a file"
    add("--init", type=one_name, help=start)
    memory = "memory to use; tiles make larger frames fit (default: what is free)"
    add("--memory", type=byte_count, metavar="8GB", help=memory)
    add_recipe_flags(p)
    add_mask_flags(p)


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
class VideoRequest:
    """A video that is asked for, checked.

    Attributes:
        picture: How its first frame is painted.
        clip: Its frames.
        selection: Which of the source they are.
        passes: Through all frames.
        frame_steps: Of a frame that follows another, if a number was asked for.
        temporal_weight: See `VideoOptions.weight`.
        flow: Folder of flows.
        keep_state: Whether painted frames are kept when the video is written.
        force: Whether to begin where the disk may be too small.
    """

    picture: StylizeRequest
    clip: Clip
    selection: Selection
    passes: int
    frame_steps: int | None
    temporal_weight: float
    flow: Path | None
    keep_state: bool
    force: bool = False

    @property
    def state(self) -> Path:
        """Folder of the painted frames, until the video is written."""
        out = self.picture.out
        return out.with_name(out.name + ".state")

    @cached_property
    def masks(self) -> list[MaskFiles]:
        """The mask files of each frame: one of a folder, and all others."""
        files, numbers = self.picture.masks, self.clip.numbers
        folders = {x: frame_files(x) for x in files.paths if x.is_dir()}
        for path, found in folders.items():
            if len(found) <= numbers[-1]:
                raise ValueError(
                    f"expected a mask for each frame in {path}, of which the last is "
                    f"the {numbers[-1] + 1}th, got {len(found)}"
                )
        if not folders:
            return [files] * len(numbers)
        of = lambda number: lambda x: folders[x][number] if x in folders else x
        return [files.map(of(number)) for number in numbers]

    @property
    def masks_change(self) -> bool:
        """Whether there is a folder of masks."""
        return any(path.is_dir() for path in self.picture.masks.paths)


def video_request(args: argparse.Namespace) -> VideoRequest:
    """What the flags ask for, checked."""
    recipe, masks = recipe_from(args), mask_files(args)
    if args.init in STARTS:
        recipe = recipe.replace(init=args.init)
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
    shape = fit_shape(clip.shape, args.size or content_size(clip.shape, recipe))
    if kind == "video":  # the codecs need even sides
        shape = max(2, shape[0] // 2 * 2), max(2, shape[1] // 2 * 2)
    memory = usable_memory() if args.memory is None else args.memory
    changes: dict[str, Any] = {
        "styles": tuple(args.style),
        "masks": masks,
        "recipe": recipe,
        "shape": shape,
        "blend": None if args.blend is None else tuple(args.blend),
        "memory": memory,
    }
    picture = StylizeRequest(**same_names(StylizeRequest, args) | changes)
    request = VideoRequest(
        picture=picture,
        clip=clip,
        selection=selection,
        **same_names(VideoRequest, args),
    )
    check_video(request)
    if clip.color != clip.source:
        complain(f"{clip.path} is {clip.source.name}; it is painted as SDR in BT.709")
    if kind == "video" and (lost := lost_tracks(clip)):
        complain(f"sound tracks of unknown formats, which are left out: {lost}")
    count = len(masks.paths)
    stages = plan_run(shape, recipe, memory - mask_bytes(shape, recipe, count))
    return dataclasses.replace(
        request, picture=dataclasses.replace(picture, stages=stages)
    )


def check_video(request: VideoRequest) -> None:
    """Raise a ValueError if a request cannot be met, whatever the memory."""
    picture = request.picture
    inputs = {path.resolve() for path in picture.pictures}
    if picture.out.resolve() in inputs:
        raise ValueError(
            f"expected an output that is none of the inputs, got {picture.out}"
        )
    if picture.init_path is not None:
        if not picture.init_path.exists():
            raise ValueError(
                f"expected --init {', '.join(STARTS)} or a file, got {picture.init!r}, "
                "where nothing is"
            )
        image_shape(picture.init_path)
    if picture.weights != "auto":
        registry.locate(picture.weights)
    if picture.blend is not None:
        check_blend(picture.blend, len(picture.styles))
    files = request.masks if request.masks_change else request.masks[:1]
    check_masks(files[0], picture.styles)
    rest = bool(picture.styles) or picture.masks.keep_rest
    check_moving_masks(files, picture.shape, rest=rest)
    check_disk(request)
    if request.flow is not None:
        FlowFiles(request.flow, request.clip.numbers)
    for path in picture.all_styles:
        style_shape(image_shape(path), picture.shape, picture.recipe)


def video_command(args: argparse.Namespace) -> int:
    """Paint a video; return the exit code."""
    request = video_request(args)
    picture, clip = request.picture, request.clip
    name, reason = registry.choose(picture.weights, quiet=picture.quiet)
    weights = registry.locate(name)
    backbone = registry.load_backbone(weights)
    picture = dataclasses.replace(picture, weights=name)
    request = dataclasses.replace(request, picture=picture)
    manifest = video_manifest(request, sha256(weights))
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(held(picture.out)):
            raise ValueError(in_use(picture.out))
        found = stack.enter_context(open_state(request, manifest))
        height, width = picture.shape
        size = f"{len(clip)} frames of {width} x {height} px, {float(clip.end):.2f} s"
        again = f"; {found} are painted" if found else ""
        say(f"{size}{again}", quiet=picture.quiet)
        say(first_line(name, reason), quiet=picture.quiet)
        needed, free = map(gigabytes, state_bytes(request))
        where = f"painted frames take up to {needed} of disk, {free} are free"
        newest = f"the newest frame is {request.state / PREVIEW}"
        say(f"{where}; {newest}", quiet=picture.quiet)
        began = time.perf_counter()
        try:
            with compile_timer() as compiling:
                firsts = paint_request(request, backbone, found)
        except FloatingPointError as error:
            complain(f"error: {error}; the frames before it are painted")
            return 3
        except OSError as error:
            kept = f"painted frames are kept in {request.state}; rerun the command"
            raise OSError(f"{error}; {kept}") from error
        seconds = time.perf_counter() - began
        spent = {"all": round(seconds, 2)}
        spent["compile"] = round(sum(x for _, x in compiling), 2)
        manifest["video"]["shots"] = [clip.numbers[i] + 1 for i in firsts]
        manifest |= {"status": "done", "resumed": found, "seconds": spent}
        write_manifest(manifest_path(picture.out), manifest)
        if not request.keep_state:
            shutil.rmtree(request.state, ignore_errors=True)
    say(f"wrote {picture.out} in {seconds:.0f} s", quiet=picture.quiet)
    return 0


def state_bytes(request: VideoRequest) -> tuple[int, int]:
    """How much of the disk the frames that are not painted may need; what is free."""
    state, (height, width) = request.state, request.picture.shape
    whole = height * width * BYTES[request.passes] * len(request.clip)
    there = sum(x.stat().st_size for x in state.glob("pass*.npz"))
    folder = next(x for x in state.absolute().parents if x.is_dir())
    return max(0, whole - there), shutil.disk_usage(folder).free


def check_disk(request: VideoRequest) -> None:
    """Raise a ValueError if the disk is too small for the painted frames."""
    needed, free = state_bytes(request)
    if needed > free and not request.force:
        raise ValueError(
            f"expected {gigabytes(needed)} of free disk for the painted frames in "
            f"{request.state}, got {gigabytes(free)}; free some, paint less (--end, "
            "--every, --size), or pass --force to begin anyway"
        )


def video_manifest(request: VideoRequest, weights_sha256: str) -> dict[str, Any]:
    """All that is needed to paint the same video again."""
    picture, clip, flow = request.picture, request.clip, request.flow
    hashes = {path: content_hash(path) for path in picture.pictures}
    found = make_manifest(picture, weights_sha256, hashes)
    text = lambda x: None if x is None else str(x)
    for package in ("av", "opencv-python-headless"):
        with contextlib.suppress(PackageNotFoundError):
            found["versions"][package] = version(package)
    found["video"] = {
        "start": text(request.selection.start),
        "end": text(request.selection.end),
        "every": request.selection.every,
        "frames": len(clip),
        "rate": text(clip.rate),
        "passes": request.passes,
        "frame_steps": request.frame_steps,
        "temporal_weight": request.temporal_weight,
        "flow": flow and path_from(picture.out.parent, flow),
        "flow_sha256": flow and content_hash(flow),
    }
    return found


def content_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the names and hashes of its files."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(x for x in path.iterdir() if x.is_file() and x.name[0] != ".")
    lines = "".join(f"{x.name} {sha256(x)}\n" for x in files)
    return hashlib.sha256(lines.encode()).hexdigest()


RECORD, PREVIEW, LOCK = "run.json", "newest.png", "lock"
"""Files in the folder of a state, beside the frames."""


@contextlib.contextmanager
def open_state(request: VideoRequest, manifest: dict[str, Any]) -> Iterator[int]:
    """Make the folder of the painted frames, or go on with the one that is there.

    Yields how many frames are painted; if none is at the end, the folder is deleted. A
    ValueError says if it is that of another run, or if another process is at work on
    it.
    """
    folder = request.state
    record = {key: manifest[key] for key in (*SAME, "video")}
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


def paint_request(request: VideoRequest, backbone: Backbone, found: int) -> list[int]:
    """Paint and write the video of a request; return the first frame of each shot."""
    picture, clip = request.picture, request.clip
    recipe, shape, start = picture.recipe, picture.shape, picture.init_path
    first, seen = request.masks[0], (*shape, 3)
    styles = [read_style(path, first, seen, recipe) for path in picture.styles]
    masks = moving_masks(request.masks, styles, seen, recipe)
    flow, firsts = request.flow, set()
    reporter = VideoReporter(request, found)

    def on_frame(progress: FrameProgress) -> None:
        firsts.add(progress.frame.first)
        reporter.frame(progress)

    options = VideoOptions(
        picture=Options(
            blend=None if picture.blend is None else jnp.array(picture.blend),
            masks=masks(0),
            init=None if start is None else load_image(start, size=max(shape)),
            stages=picture.stages,
            mesh=tile_mesh(),
            on_chunk=reporter.chunk,
        ),
        masks=masks if request.masks_change else None,
        steps=request.frame_steps,
        weight=request.temporal_weight,
        flows=None if flow is None else FlowFiles(flow, clip.numbers),
        passes=request.passes,
        store=FolderStore(request.state),
        on_frame=on_frame,
    )
    key, styles_given = jax.random.key(picture.seed), [] if first.labels else styles
    frames = clip.frames(shape)
    given = backbone, frames, styles_given, recipe
    with reporter:
        write_clip(picture.out, clip, paint_frames(*given, key=key, options=options))
    return sorted(firsts)


class VideoReporter(Reporter):
    """What happens while a video is painted: progress, the newest frame, interruption.

    The unit of its bar is a frame.
    """

    def __init__(self, request: VideoRequest, found: int):
        self.count, self.request = len(request.clip), request
        total, quiet = self.count * request.passes, request.picture.quiet
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
        save_image(self.request.state / PREVIEW, progress.image)
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
        which = f"pass {passed + 1}, " if self.request.passes > 1 else ""
        return f"{which}frame {index + 1}/{self.count}"
