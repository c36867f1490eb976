"""The 80 classes of COCO (cocodataset.org), and the words people have for them."""

from __future__ import annotations

# Numbers as the detector gives them; COCO left gaps.
CLASSES = {
    1: "person",
    2: "bicycle",
    3: "car",
    4: "motorcycle",
    5: "airplane",
    6: "bus",
    7: "train",
    8: "truck",
    9: "boat",
    10: "traffic light",
    11: "fire hydrant",
    13: "stop sign",
    14: "parking meter",
    15: "bench",
    16: "bird",
    17: "cat",
    18: "dog",
    19: "horse",
    20: "sheep",
    21: "cow",
    22: "elephant",
    23: "bear",
    24: "zebra",
    25: "giraffe",
    27: "backpack",
    28: "umbrella",
    31: "handbag",
    32: "tie",
    33: "suitcase",
    34: "frisbee",
    35: "skis",
    36: "snowboard",
    37: "sports ball",
    38: "kite",
    39: "baseball bat",
    40: "baseball glove",
    41: "skateboard",
    42: "surfboard",
    43: "tennis racket",
    44: "bottle",
    46: "wine glass",
    47: "cup",
    48: "fork",
    49: "knife",
    50: "spoon",
    51: "bowl",
    52: "banana",
    53: "apple",
    54: "sandwich",
    55: "orange",
    56: "broccoli",
    57: "carrot",
    58: "hot dog",
    59: "pizza",
    60: "donut",
    61: "cake",
    62: "chair",
    63: "couch",
    64: "potted plant",
    65: "bed",
    67: "dining table",
    70: "toilet",
    72: "tv",
    73: "laptop",
    74: "mouse",
    75: "remote",
    76: "keyboard",
    77: "cell phone",
    78: "microwave",
    79: "oven",
    80: "toaster",
    81: "sink",
    82: "refrigerator",
    84: "book",
    85: "clock",
    86: "vase",
    87: "scissors",
    88: "teddy bear",
    89: "hair drier",
    90: "toothbrush",
}

# Other words for the very same thing. A narrower word is none ("man", "kitten", "taxi"): the detector cannot tell.
_SYNONYMS = {
    "person": ("human", "human being"),
    "bicycle": ("bike", "pushbike"),
    "car": ("automobile", "motorcar"),
    "motorcycle": ("motorbike",),
    "airplane": ("aeroplane", "plane"),
    "truck": ("lorry",),
    "traffic light": ("traffic signal", "stoplight", "stop light"),
    "fire hydrant": ("hydrant",),
    "backpack": ("rucksack",),
    "handbag": ("purse", "hand bag"),
    "tie": ("necktie",),
    "suitcase": ("suit case",),
    "frisbee": ("flying disc",),
    "skis": ("ski",),
    "snowboard": ("snow board",),
    "skateboard": ("skate board",),
    "surfboard": ("surf board",),
    "tennis racket": ("tennis racquet",),
    "wine glass": ("wineglass",),
    "cup": ("mug",),
    "hot dog": ("hotdog",),
    "donut": ("doughnut",),
    "couch": ("sofa", "settee"),
    "potted plant": ("pot plant", "houseplant", "house plant"),
    "tv": ("television", "telly", "tv set", "television set"),
    "laptop": ("laptop computer", "notebook computer"),
    "mouse": ("computer mouse",),
    "remote": ("remote control",),
    "keyboard": ("computer keyboard",),
    "cell phone": ("mobile phone", "cellphone", "cellular phone", "smartphone"),
    "microwave": ("microwave oven",),
    "refrigerator": ("fridge",),
    "teddy bear": ("teddy",),
    "hair drier": ("hair dryer", "hairdryer", "hairdrier"),
    "toothbrush": ("tooth brush",),
}

_PLURALS = {
    "person": "people",
    "human being": "human beings",
    "sheep": "sheep",
    "skis": "skis",
    "knife": "knives",
    "broccoli": "broccoli",
    "mouse": "mice",
    "computer mouse": "computer mice",
    "scissors": "scissors",
}


def plural(name: str) -> str:
    """Gives the plural of a class's name or synonym."""
    if name in _PLURALS:
        return _PLURALS[name]
    if name.endswith("y"):
        return name.removesuffix("y") + "ies"
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def class_of(label: str) -> str | None:
    """Finds the class a caller means by *label*, singular or plural, in any case; None when there is none."""
    words = label.casefold().replace("-", " ").replace("_", " ").split()
    if words and words[0] in {"a", "an", "the"}:
        words = words[1:]
    return _CLASS_OF.get(" ".join(words))


_CLASS_OF = {
    form: name
    for name in CLASSES.values()
    for word in (name, *_SYNONYMS.get(name, ()))
    for form in (word, plural(word))
} | {"persons": "person"}
