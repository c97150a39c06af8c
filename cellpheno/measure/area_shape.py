"""Area and shape of objects: CellProfiler's MeasureObjectSizeShape."""

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.distance import edge_distance
from cellpheno.measure.hull import convex_features
from cellpheno.measure.kernel import kernel
from cellpheno.measure.moments import principal_variances, variances
from cellpheno.measure.objects import Objects, sort_within

# Benkrid's weights, by 1 + 2 * (border pixels above, below, left, right) + 10 * (border pixels at the corners)
_STEP = np.zeros(50, np.int8)
_STEP[[5, 7, 15, 17, 25, 27]] = 1  # straight
_STEP[[21, 33]] = 2  # diagonal
_STEP[[13, 23]] = 3  # half of each


def area_shape(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Area and shape of each object, as CellProfiler 4.2 defines them; its advanced features are those of `moments`.

    Nothing outside the image belongs to an object. Objects are flat: what CellProfiler adds for volumes (Z, Volume,
    SurfaceArea) is not there. `FormFactor` of a single pixel is nan, for its perimeter is 0 (CellProfiler: inf).

    Parameters
    ----------
    objects : Objects

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Features
    --------
    Location_Center_<axis> : pixel
        Mean column (X) or row (Y) of the pixels.
    AreaShape_Center_<axis> : pixel
        Mean column (X) or row (Y) of the pixels; the same as Location_Center_<axis>.
    AreaShape_Area : pixel^2
        Number of pixels.
    AreaShape_BoundingBoxArea : pixel^2
        Area of the smallest upright box round the pixels.
    AreaShape_BoundingBoxMinimum_<axis> : pixel
        First column (X) or row (Y) of the box.
    AreaShape_BoundingBoxMaximum_<axis> : pixel
        One past the last column (X) or row (Y) of the box.
    AreaShape_Extent : fraction
        Area / area of the box.
    AreaShape_Perimeter : pixel
        Length of the outline, its straight and diagonal steps weighted after Benkrid and Crookes.
    AreaShape_FormFactor : 1
        4 pi area / perimeter^2; 1 for a disk.
    AreaShape_Compactness : 1
        Perimeter^2 / (4 pi area).
    AreaShape_EquivalentDiameter : pixel
        Diameter of the disk with the same area.
    AreaShape_MajorAxisLength : pixel
        Longer axis of the ellipse with the same second moments.
    AreaShape_MinorAxisLength : pixel
        Shorter axis of that ellipse.
    AreaShape_Eccentricity : 1
        Distance of the foci of that ellipse / longer axis: 0 for a disk, 1 for a line.
    AreaShape_Orientation : degree
        Angle of its longer axis to the y axis, -90 to 90.
    AreaShape_EulerNumber : count
        Parts minus holes, pixels joined at corners too.
    AreaShape_ConvexArea : pixel^2
        Pixels whose centre lies in or on the convex hull of the pixel-edge midpoints.
    AreaShape_Solidity : fraction
        Area / convex area.
    AreaShape_MinFeretDiameter : pixel
        Smallest distance of two parallel lines that hold all pixel centres between them.
    AreaShape_MaxFeretDiameter : pixel
        Largest distance of two pixel centres.
    AreaShape_MaximumRadius : pixel
        Largest distance of a pixel to the nearest one outside the object, beyond the image too.
    AreaShape_MeanRadius : pixel
        Mean distance of the object's pixels to the nearest pixel outside it.
    AreaShape_MedianRadius : pixel
        Median distance of the object's pixels to the nearest pixel outside it.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9 (CellProfiler 4)

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> features = area_shape(index_objects(np.array([[1, 1, 0], [1, 1, 0]])))
    >>> [features[f"AreaShape_{name}"].item() for name in ("Area", "Perimeter", "Solidity", "MaximumRadius")]
    [4.0, 4.0, 1.0, 1.0]
    """
    area = objects.areas.astype(np.float64)
    first_y, first_x, last_y, last_x = objects.boxes.T.astype(np.float64)
    box_area = (last_y - first_y) * (last_x - first_x)
    perimeter, euler = _outline(objects.pointer, objects.rows, objects.cols, objects.boxes, _STEP).T
    convex_area, least_feret, greatest_feret = convex_features(objects).T
    most, mean, median = _radii(objects)
    features = {
        "Area": area,
        "BoundingBoxArea": box_area,
        "BoundingBoxMaximum_X": last_x,
        "BoundingBoxMaximum_Y": last_y,
        "BoundingBoxMinimum_X": first_x,
        "BoundingBoxMinimum_Y": first_y,
        "Compactness": perimeter**2 / (4 * np.pi * area),
        "ConvexArea": convex_area,
        "EquivalentDiameter": np.sqrt(4 * area / np.pi),
        "EulerNumber": euler,
        "Extent": area / box_area,
        "MaxFeretDiameter": greatest_feret,
        "MinFeretDiameter": least_feret,
        "MaximumRadius": most,
        "MeanRadius": mean,
        "MedianRadius": median,
        "Solidity": area / convex_area,
        "Perimeter": perimeter,
        "FormFactor": 4 * np.pi * area / np.where(perimeter > 0, perimeter, np.nan) ** 2,
    }
    centers = center(objects)
    places = {name.replace("AreaShape", "Location"): values for name, values in centers.items()}
    return places | centers | {f"AreaShape_{name}": values for name, values in (_ellipse(objects) | features).items()}


def center(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Mean column and row of each object's pixels.

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> center(index_objects(np.array([[0, 0, 0], [1, 1, 0]])))["AreaShape_Center_X"].tolist()
    [0.5]
    """
    centers = _center(objects.pointer, objects.rows, objects.cols)
    return {"AreaShape_Center_X": centers[:, 1], "AreaShape_Center_Y": centers[:, 0]}


def _ellipse(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Axes of the ellipse with the same second moments."""
    yy, xx, xy = variances(objects)
    largest, smallest = principal_variances(yy, xx, xy)
    ratio = np.divide(smallest, largest, out=np.ones_like(largest), where=largest > 0)  # one pixel: no eccentricity
    tilt = 0.5 * np.arctan2(2 * xy, yy - xx)
    no_axis = np.where(xy > 0, np.pi / 4, -np.pi / 4)  # scikit-image's choice for equal variances
    return {
        "Eccentricity": np.sqrt(1 - ratio),
        "MajorAxisLength": 4 * np.sqrt(largest),
        "MinorAxisLength": 4 * np.sqrt(smallest),
        "Orientation": np.degrees(np.where(yy == xx, no_axis, tilt)),
    }


def _radii(objects: Objects) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Maximum, mean and median distance to the outside."""
    if not len(objects):
        return np.empty(0), np.empty(0), np.empty(0)
    ordered = sort_within(objects, objects.once(edge_distance, True))
    start, stop = objects.pointer[:-1], objects.pointer[1:]
    median = (ordered[(start + stop - 1) // 2] + ordered[(start + stop) // 2]) / 2
    return ordered[stop - 1], np.add.reduceat(ordered, start) / objects.areas, median


@kernel
def _center(pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32]) -> NDArray[np.float64]:
    out = np.empty((pointer.size - 1, 2))
    for o in range(pointer.size - 1):
        y, x = np.int64(0), np.int64(0)
        for i in range(pointer[o], pointer[o + 1]):
            y += rows[i]
            x += cols[i]
        area = pointer[o + 1] - pointer[o]
        out[o, 0], out[o, 1] = y / area, x / area
    return out


@kernel
def _outline(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    step: NDArray[np.int8],
) -> NDArray[np.float64]:
    """Perimeter and Euler number, (n, 2)."""
    out = np.empty((pointer.size - 1, 2))
    for o in range(pointer.size - 1):
        top, left = boxes[o, 0] - 2, boxes[o, 1] - 2  # room for the neighbours of neighbours
        mask = np.zeros((boxes[o, 2] - top + 2, boxes[o, 3] - left + 2), np.uint8)
        for i in range(pointer[o], pointer[o + 1]):
            mask[rows[i] - top, cols[i] - left] = 1
        out[o, 0] = _perimeter(mask, step)
        out[o, 1] = _euler_number(mask)
    return out


@kernel
def _perimeter(mask: NDArray[np.uint8], step: NDArray[np.int8]) -> float:
    height, width = mask.shape
    border = np.zeros(mask.shape, np.uint8)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            inside = mask[y - 1, x] & mask[y + 1, x] & mask[y, x - 1] & mask[y, x + 1]
            border[y, x] = mask[y, x] & (1 - inside)
    counts = np.zeros(4, np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if border[y, x]:
                beside = border[y - 1, x] + border[y + 1, x] + border[y, x - 1] + border[y, x + 1]
                corner = border[y - 1, x - 1] + border[y - 1, x + 1] + border[y + 1, x - 1] + border[y + 1, x + 1]
                counts[step[1 + 2 * beside + 10 * corner]] += 1
    return float(counts[1] + counts[2] * np.sqrt(2.0) + counts[3] * (1 + np.sqrt(2.0)) / 2)


@kernel
def _euler_number(mask: NDArray[np.uint8]) -> float:
    """Gray's count over all squares of four pixels."""
    total = 0
    for y in range(mask.shape[0] - 1):
        for x in range(mask.shape[1] - 1):
            a, b, c, d = mask[y, x], mask[y, x + 1], mask[y + 1, x], mask[y + 1, x + 1]
            pixels = a + b + c + d
            if pixels == 1:
                total += 1
            elif pixels == 3:
                total -= 1
            elif pixels == 2 and a == d:
                total -= 2
    return total / 4
