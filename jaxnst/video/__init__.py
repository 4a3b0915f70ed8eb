"""Videos, painted so that strokes follow the motion."""

from jaxnst.video.clip import Clip, Selection, open_clip
from jaxnst.video.flow import FlowFiles, load_flow, measure_flow
from jaxnst.video.paint import VideoOptions, paint_frames, stylize_video
from jaxnst.video.store import FolderStore
from jaxnst.video.temporal import join_past, reliability, warp, warping_error
from jaxnst.video.write import write_clip

__all__ = [
    "Clip", "FlowFiles", "FolderStore", "Selection", "VideoOptions", "join_past",
    "load_flow", "measure_flow", "open_clip", "paint_frames", "reliability",
    "stylize_video", "warp", "warping_error", "write_clip",
]  # fmt: skip
