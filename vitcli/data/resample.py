"""Random crops, turns and flips of training images, all in one resampling.

Shapes: B images, C channels, h x w stored pixels, H x W pixels of the result. Random numbers are drawn on the CPU from
the given generator. The result has the dtype of the images: uint8 is rounded, as in torchvision.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.preprocessing import Size
from vitcli.data.threaded import Change, to_device

_ATTEMPTS = 10
_SMALL = 96 * 96
"""Number of pixels in a result up to which the CPU, too, multiplies by dense matrices of weights."""
_SHRINK = 1.5
"""The largest factor by which bilinear resampling may shrink: it reads two neighbours, so at 2 it begins to skip."""


def resamples(config: AugmentConfig) -> bool:
    """Tell whether a configuration needs resampling; flips and crops after padding only move whole pixels."""
    return config.crop_scale < 1 or _warps(config)


def _warps(config: AugmentConfig) -> bool:
    return max(config.rotate, config.zoom, config.shift, config.shear) > 0


def random_resample(
    stretch: Tensor, whole: Size, size: Size, config: AugmentConfig, generator: torch.Generator
) -> Change:
    """Draw a random resized crop, flips, shear, rotation, zoom and shift, all in one resampling; the outside is black.

    Args:
        stretch: what a column of each image covers of the photo, as a multiple of what a row covers, (B,).
        whole: the height and width of the images.
        size: height and width of the result.
        config: the ranges.
        generator: the source of randomness, on the CPU.

    Returns:
        The change, which keeps the images' dtype and their range of 0..255.
    """
    boxes = random_boxes(stretch, whole, config, generator)
    chances = torch.tensor([[config.vertical_flip], [config.flip]])
    mirrored = torch.rand(2, len(stretch), generator=generator) < chances
    if _warps(config) or not config.antialias:
        maps = _random_maps(boxes, mirrored, stretch, whole, size, config, generator)
        finer = _fineness(maps) if config.antialias else 1
        if config.border == "reflect":
            edges = _edges(boxes, whole)
            return lambda images, positions: warp(images, maps[positions], size, finer=finer, edges=edges[positions])
        return lambda images, positions: warp(images, maps[positions], size, finer=finer)
    return lambda images, positions: resize_boxes(images, boxes[:, positions], mirrored[:, positions], size)


def random_boxes(stretch: Tensor, whole: Size, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw random resized crops as torchvision does: (4, B) whole pixels, top, left, height and width.

    The area is uniform in [crop_scale, 1] of the image's, the aspect ratio in the photo log-uniform in crop_ratio. The
    first of ten attempts that fits is taken; if none fits, the largest centred box whose ratio is allowed.
    """
    batch, stretch = len(stretch), stretch.double()
    height, width = whole
    if config.crop_scale == 1:
        return torch.tensor([0, 0, height, width])[:, None].expand(4, batch)
    shares, shapes = torch.rand(2, _ATTEMPTS, batch, generator=generator, dtype=torch.float64)
    places = torch.rand(2, batch, generator=generator, dtype=torch.float64)
    area = height * width * torch.lerp(torch.full_like(shares, config.crop_scale), torch.ones_like(shares), shares)
    low, high = config.crop_ratio
    ratio = low * (high / low) ** shapes
    ratio = ratio / stretch  # of stored pixels
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()]).round()  # (2, attempts, B)
    limits = torch.tensor([height, width])[:, None]
    fits = ((sides > 0) & (sides <= limits[:, None])).all(dim=0)
    first = fits.int().argmax(dim=0)
    sides = sides.gather(1, first.expand(2, 1, -1))[:, 0]
    corners = (places * (limits - sides + 1)).floor()
    inner = (
        torch.stack([(width * stretch / low).clamp(max=height), (height * high / stretch).clamp(max=width)])
        .round()
        .clamp(min=1)
    )
    found = fits.any(dim=0)
    sides = torch.where(found, sides, inner)
    corners = torch.where(found, corners, (limits - inner) // 2)
    return torch.cat([corners, sides]).long()


def _random_maps(
    boxes: Tensor,
    mirrored: Tensor,
    stretch: Tensor,
    whole: Size,
    size: Size,
    config: AugmentConfig,
    generator: torch.Generator,
) -> Tensor:
    """Draw maps from the result to the image, (B, 2, 3), in pixels from the centre of each.

    Within the crop, the map is torchvision's RandomAffine: the pixel at offset p from the crop's centre shows the pixel
    that was at SHEAR^-1 ROTATION^-1 (p - shift) / zoom. Shear is along x. Rotation and shear apply to the photo's
    pixels, whatever shape the crop is resized to afterwards.
    """
    height, width = whole
    batch = boxes.shape[1]
    turn, growth, slant, across, down = 2 * torch.rand(5, batch, generator=generator) - 1
    if config.affine_probability < 1:
        chosen = torch.rand(batch, generator=generator) < config.affine_probability
        turn, growth, slant, across, down = (each * chosen for each in (turn, growth, slant, across, down))
    angle, tangent = math.radians(config.rotate) * turn, torch.tan(math.radians(config.shear) * slant)
    zoom = 1 + config.zoom * growth if config.zoom_law == "linear" else (1 + config.zoom) ** growth
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    rows = torch.stack([cos - sin * tangent, (sin + cos * tangent) / stretch]), torch.stack([-sin * stretch, cos])
    linear = torch.stack(rows).permute(2, 0, 1)  # (B, 2, 2): x and y of the image from x and y of the crop
    top, left, box_height, box_width = boxes.float()
    shift = torch.stack([box_width * across, box_height * down], dim=1)[:, :, None] * config.shift
    centre = torch.stack([left + (box_width - width) / 2, top + (box_height - height) / 2], dim=1)[:, :, None]
    signs = 1 - 2 * mirrored.float()
    scale = torch.stack([signs[1] * box_width / size[1], signs[0] * box_height / size[0]], dim=1)[:, None]
    return torch.cat([linear * scale, centre - linear @ shift], dim=2)


def _edges(boxes: Tensor, whole: Size) -> Tensor:
    """Compute the edges of crops as ``warp`` takes them, (B, 2, 2)."""
    top, left, box_height, box_width = boxes.float()
    low = torch.stack([left - whole[1] / 2, top - whole[0] / 2], dim=1)
    return torch.stack([low, low + torch.stack([box_width, box_height], dim=1)], dim=2)


def _fineness(maps: Tensor) -> int:
    """Compute the factor of finer sampling for a batch, so that no pixel is skipped where images shrink.

    The finer samples are averaged. Photos are kept at 4/3 of the model's size, so a crop shrinks little and a factor of
    1 is enough. The factor is computed for the whole batch, because an image must not depend on the other images of the
    chunk or share in which it is changed.
    """
    return max(1, math.ceil(float(maps[:, :, :2].norm(dim=1).max()) / _SHRINK))


def warp(images: Tensor, maps: Tensor, size: Size, *, finer: int = 1, edges: Tensor | None = None) -> Tensor:
    """Resample images bilinearly along maps; pixels from outside an image are black, unless there are edges.

    Args:
        images: (B, C, h, w), pixels in 0..255.
        maps: (B, 2, 3), on the CPU: from the result to the image, in pixels from the centre of each.
        size: height and width of the result.
        finer: the number of samples per pixel in each direction, which are averaged.
        edges: the edges at which each image is reflected, (B, 2, 2), on the CPU: for x and for y, the smallest and the
            greatest position, in pixels from the centre.
    """
    maps = maps * torch.tensor([1 / finer, 1 / finer, 1])
    grid = _grid(to_device(maps, images.device), images.shape[2:], (finer * size[0], finer * size[1]))
    border = "zeros"
    if edges is not None:
        halves = torch.tensor([images.shape[3], images.shape[2]])[:, None] / 2
        _reflect(grid, to_device(edges / halves, images.device))
        border = "border"  # half a pixel at the edge of an image has no second neighbour
    sampled = F.grid_sample(images.to(grid.dtype), grid, mode="bilinear", padding_mode=border, align_corners=False)
    if finer > 1:
        sampled = F.avg_pool2d(sampled, finer)
    return sampled.round_().to(torch.uint8) if images.dtype == torch.uint8 else sampled


def _reflect(grid: Tensor, edges: Tensor) -> None:
    """Reflect positions, (B, H, W, 2), at edges, (B, 2, 2), until they lie between them; in place."""
    low, high = (edges[:, None, None, :, end] for end in (0, 1))
    length = high - low
    position = (grid - low).remainder_(2 * length)  # one way and back
    torch.add(low, torch.minimum(position, 2 * length - position), out=grid)


def _grid(maps: Tensor, whole: torch.Size, size: Size) -> Tensor:
    """Compute the input of grid_sample, (B, *size, 2), without the matrix product of affine_grid over every pixel."""
    y, x = (torch.arange(side, device=maps.device) - (side - 1) / 2 for side in size)
    grid = maps.new_empty(len(maps), *size, 2)
    for axis, half in enumerate((whole[1] / 2, whole[0] / 2)):
        along_x, along_y, offset = (maps[:, axis] / half).T[:, :, None]
        torch.add((along_x * x)[:, None], (along_y * y + offset)[:, :, None], out=grid[..., axis])
    return grid


def resize_boxes(images: Tensor, boxes: Tensor, mirrored: Tensor, size: Size) -> Tensor:
    """Cut out boxes and resize them bilinearly, with antialiasing as in torchvision.

    There are two ways, with the same result (uint8: up to one grey level). Small results, and all results on a GPU, are
    dense matrix products for all images at once. For large results, the CPU calls torch's uint8 kernel, image by image.

    Args:
        images: (B, C, h, w), pixels in 0..255.
        boxes: (4, B), on the CPU: top, left, height and width in pixels.
        mirrored: (2, B), on the CPU: whether top and bottom are swapped, and whether left and right are.
        size: height and width of the result.
    """
    if images.device.type != "cpu" or size[0] * size[1] <= _SMALL:
        return _resize_by_products(images, boxes, mirrored, size)
    return _resize_one_by_one(images, boxes, mirrored, size)


def _resize_by_products(images: Tensor, boxes: Tensor, mirrored: Tensor, size: Size) -> Tensor:
    whole = images.shape[2:]
    boxes, mirrored = to_device(boxes.float(), images.device), to_device(mirrored, images.device)
    down, across = (_weights(boxes[axis], boxes[2 + axis], mirrored[axis], whole[axis], size[axis]) for axis in (0, 1))
    resized = down[:, None] @ images.to(down.dtype) @ across[:, None].mT
    return resized.round_().clamp_(0, 255).to(images.dtype) if images.dtype == torch.uint8 else resized


def _weights(start: Tensor, length: Tensor, mirrored: Tensor, inside: int, outside: int) -> Tensor:
    """Compute the weight of each image pixel in each pixel of the result, along one axis: (B, outside, inside).

    The weights form a triangle around the position in the image that a result's pixel comes from. The triangle reaches
    as far as a result's pixel is wide, at least one pixel of the image, and is cut at the box.
    """
    start, length, mirrored = (each[:, None, None] for each in (start, length, mirrored))
    target = torch.arange(outside, device=start.device)[:, None] + 0.5
    pixel = torch.arange(inside, device=start.device) + 0.5
    target = torch.where(mirrored, outside - target, target)
    scale = length / outside
    distance = (pixel - start - target * scale).abs()
    weights = (1 - distance / scale.clamp(min=1)).clamp_(min=0)
    weights *= (pixel > start) & (pixel < start + length)
    return weights / weights.sum(dim=2, keepdim=True)


def _resize_one_by_one(images: Tensor, boxes: Tensor, mirrored: Tensor, size: Size) -> Tensor:
    result = images.new_empty(*images.shape[:2], *size)
    rows = zip(boxes.T.tolist(), mirrored.T.tolist(), strict=True)
    for index, ((top, left, height, width), (upside, sideways)) in enumerate(rows):
        part = images[index : index + 1, :, top : top + height, left : left + width]
        part = part.contiguous(memory_format=torch.channels_last)  # the kernel itself would rearrange it more slowly
        resized = F.interpolate(part, size, mode="bilinear", antialias=True)
        result[index : index + 1] = resized.flip([2] * upside + [3] * sideways) if upside or sideways else resized
    return result
