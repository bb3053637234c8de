"""Libraries that are lists of builders: a line for every group of models that is called alike."""

from __future__ import annotations

from collections.abc import Mapping

from tools.zoo.builders import Builders

_BINARY = {"in_channels": 1, "num_classes": 2}
_LINE = {"c_in": 1, "c_out": 5}

# what isn't a classifier with stages in these packages is left out
OTHERS: Mapping[str, tuple[Builders, ...]] = {
    "pylocron": (Builders("holocron.models.classification", r"[a-z]\w+"),),
    "fastai": (Builders("fastai.vision.models.xresnet", r"x(?!senet154)\w+"),),
    "geffnet": (Builders("geffnet", r"(?!tf_)(\w+net\w*|fbnetc)_\w+"),),
    "resnest": (Builders("resnest.torch", r"resnest\w+"),),
    "antialiased_cnns": (Builders("antialiased_cnns", r"(alex|dense|mobile|res|wide|vgg)\w+"),),
    "pretrainedmodels": (
        *(
            Builders("pretrainedmodels", names, {"num_classes": 1000, "pretrained": None}, size)
            for names, size in (
                (r"(?!inception|xception|pnasnet|nasnetal|poly)[a-z]\w+", (3, 224, 224)),
                (r"inception\w+|xception|pnasnet\w+|nasnetal\w+|poly\w+", (3, 331, 331)),
            )
        ),
    ),
    "torchreid": (
        Builders(
            "torchreid.reid.models", r"(?!build|show)[a-z]\w*",
            {"num_classes": 1000, "loss": "softmax", "pretrained": False}, (3, 256, 128),
        ),
    ),
    "monai": tuple(
        Builders(
            "monai.networks.nets", names, {"spatial_dims": len(sides), **options}, (1, *sides),
            f"_{len(sides)}d",
        )
        for sides in ((96,), (96, 96), (64, 64, 64))
        for names, options in (
            (r"DenseNet\d+", {"in_channels": 1, "out_channels": 2}),
            (r"resnet\d+", {"n_input_channels": 1, "num_classes": 2}),
            (r"SE(Net|Res\w+)\d+", _BINARY),
            (r"EfficientNetBN", {**_BINARY, "model_name": "efficientnet-b0", "pretrained": False}),
        )
    ),
    "tsai": (
        Builders("tsai.models.XResNet1d", r"xresnet1d\d\w+", _LINE, (1, 512)),
        Builders("tsai.models.XResNet1dPlus", r"xresnet1d\d\w+", {**_LINE, "seq_len": 512}, (1, 512)),
    ),
    "torchgeo": (Builders("torchgeo.models", r"resnet\d+|swin_\w+"),),
    "facenet_pytorch": (
        Builders(
            "facenet_pytorch", r"InceptionResnetV1", {"classify": True, "num_classes": 10},
            (3, 160, 160),
        ),
    ),
    "torchxrayvision": (Builders("torchxrayvision.models", r"DenseNet", {}, (1, 224, 224)),),
    "robustness": (
        Builders("robustness.cifar_models", r"(?!Basic)[A-Z]\w*\d+\w*", {}, (3, 32, 32)),
    ),
    "pytorchvideo": tuple(
        Builders("pytorchvideo.models.hub", names, {"pretrained": False}, size)
        for names, size in (
            (r"slow_r50|c2d_r50|i3d_r50", (3, 8, 224, 224)),
            (r"r2plus1d_r50", (3, 16, 224, 224)),
            (r"csn_r101", (3, 32, 224, 224)),
            (r"x3d_xs|efficient_x3d_xs", (3, 4, 160, 160)),
            (r"x3d_s|efficient_x3d_s", (3, 13, 160, 160)),
            (r"x3d_m", (3, 16, 224, 224)),
            (r"x3d_l", (3, 16, 312, 312)),
            (r"mvit_base_16x4", (3, 16, 224, 224)),
            (r"mvit_base_32x3", (3, 32, 224, 224)),
        )
    ),
}  # fmt: skip
