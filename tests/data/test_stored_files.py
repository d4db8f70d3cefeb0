"""Names, sizes and formats of an image folder, in the order in which its images are loaded."""

import numpy as np
from PIL import Image

from bitleak.audit.target.record_lists import known_records
from bitleak.data.hub import Hub
from bitleak.data.stored_files import stored_files


def test_members_named_by_a_folder_are_the_images_in_it(tmp_path):
    rng = np.random.default_rng(0)
    copies = tmp_path / "members" / "cat"
    copies.mkdir(parents=True)
    brightness = {}
    for place, (part, name, number) in enumerate(
        [("train", "cat", 1), ("train", "cat", 2), ("train", "dog", 1), ("train", "dog", 2),
         ("test", "cat", 7), ("test", "dog", 8)]
    ):  # fmt: skip
        suffix = "png" if place % 2 else "jpg"
        file = tmp_path / "data" / part / name / f"{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        value = 20 + 30 * place
        pixels = np.full((6, 6, 3), value, np.uint8) + rng.integers(0, 2, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        brightness[file.name, name] = value
        if (part, name) == ("train", "cat"):
            (copies / file.name).write_bytes(file.read_bytes())
    data = Hub(str(tmp_path / "data"))
    images = data.load(None)
    stored = stored_files(data, None, images.held_out)
    assert len(stored.names) == len(images.labels) == 6
    for record, path in enumerate(stored.names):
        name, file = path.split("/")[-2:]
        assert abs(images.pixels[record].mean() - brightness[file, name]) < 3
        kind = "JPEG" if file.endswith("jpg") else "PNG"
        assert stored.formats[record] == kind
        assert (
            stored.sizes[record]
            == (tmp_path / "data").joinpath(*path.split("/")[-3:]).stat().st_size
        )
    # "cat/1.jpg" and "cat/2.png" in the folder of members
    found = known_records(str(tmp_path / "members"), None, records=6, names=stored.names)
    assert found.members.tolist() == [0, 1]
    assert found.others.tolist() == [2, 3, 4, 5]
    assert stored.order.tolist() == [0, 0.25, 0.5, 0.75, 0, 0.5]
