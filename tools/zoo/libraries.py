"""How each library lists its classifiers and builds them; nothing here knows a single model."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from td_transform.torchvision_cpu import import_torchvision
from tools.zoo.builders import Builders, Size
from tools.zoo.others import OTHERS

# timm's modules of networks that run at one resolution, whatever their width or depth
_ISOTROPIC = frozenset({
    "beit", "cait", "convit", "crossvit", "deepseek_vit", "deit", "eva", "gemma4_vit", "mlp_mixer",
    "naflexvit", "qwen3_vit", "tnt", "vision_transformer", "vision_transformer_relpos",
    "vision_transformer_sam", "xcit",
})  # fmt: skip
# timm's modules of networks with convolutions alone; the others have attention too
_CONVOLUTIONAL = frozenset({
    "byobnet", "convmixer", "convnext", "cspnet", "cspnext", "densenet", "dla", "dpn",
    "efficientnet", "fasternet", "fastvit", "focalnet", "ghostnet", "hardcorenas", "hgnet", "hrnet",
    "inception_next", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2", "mambaout",
    "mobilenetv3", "nasnet", "nfnet", "pnasnet", "rdnet", "regnet", "repghost", "repvit", "res2net",
    "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet", "tresnet",
    "vgg", "vovnet", "xception", "xception_aligned",
})  # fmt: skip
# transformers' types of networks that run at one resolution
_TRANSFORMERS_ISOTROPIC = frozenset({
    "beit", "clip", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "ijepa",
    "imagegpt", "metaclip_2", "perceiver", "shieldgemma2", "siglip", "siglip2", "vit", "vit_msn",
})  # fmt: skip
# transformers' types of networks without attention
_TRANSFORMERS_CONVOLUTIONAL = frozenset({
    "bit", "convnext", "convnextv2", "efficientnet", "focalnet", "hgnet_v2", "mobilenet_v1",
    "mobilenet_v2", "poolformer", "pp_lcnet", "regnet", "resnet", "textnet", "timm_wrapper",
})  # fmt: skip
# pytorchcv's modules of networks whose output is no vector of classes
_PYTORCHCV_OTHERS = frozenset({
    "alphapose_coco", "bisenet", "centernet", "cgnet", "contextnet", "dabnet", "danet", "deeplabv3",
    "edanet", "enet", "erfnet", "esnet", "espcnet", "fastscnn", "fcn8sd", "fpenet", "ibppose_coco",
    "icnet", "jasper", "jasperdr", "lednet", "lffd", "linknet", "lwopenpose_cmupan", "nvpattexp",
    "pfpcnet", "prnet", "propainter", "propainter_ip", "propainter_rfc", "pspnet", "quartznet",
    "raft", "segnet", "simplepose_coco", "simpleposemobile_coco", "sinet", "sqnet",
    "superpointnet", "unet", "visemenet", "voca",
})  # fmt: skip


@dataclass(frozen=True)
class Library:
    """A collection of models.

    Args:
        name: of the package.
        families: each model's family, by the model's name.
        build: a model, on whatever device torch builds on.
        input_size: (C, H, W) of a model by its name; None where `to_topdown` finds it itself.
        kind: what a family is called in the table's head.
    """

    name: str
    families: Callable[[], Mapping[str, str]]
    build: Callable[[str], nn.Module]
    input_size: Callable[[str, nn.Module], Size | None] = lambda name, model: None
    kind: Callable[[str], str] = lambda family: "models"

    @property
    def version(self) -> str:
        return version(self.name)


def _torchvision_families() -> dict[str, str]:
    models = import_torchvision().models
    builders = {n: models.get_model_builder(n) for n in models.list_models(module=models)}
    return {name: _module(builder) for name, builder in builders.items()}


def _torchvision(name: str) -> nn.Module:
    model: nn.Module = import_torchvision().models.get_model_builder(name)()
    return model


def _timm_families() -> dict[str, str]:
    import_torchvision()
    timm = importlib.import_module("timm")
    modules: Mapping[str, str] = importlib.import_module("timm.models._registry")._model_to_module
    families = {name: modules[name] for name in timm.list_models()}
    return {name: family for name, family in families.items() if family not in _ISOTROPIC}


def _timm(name: str) -> nn.Module:
    import_torchvision()
    model: nn.Module = importlib.import_module("timm").create_model(name)
    return model


def _transformers_families() -> dict[str, str]:
    return {name: name for name in _classifiers() if name not in _TRANSFORMERS_ISOTROPIC}


def _transformers(name: str) -> nn.Module:
    configuration, kind = _classifiers()[name]
    model: nn.Module = kind(configuration())
    return model


def _classifiers() -> dict[str, tuple[Any, Any]]:
    """Per model type, its configuration and the class that classifies images."""
    import_torchvision()
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    kinds = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    first = {c: k[0] if isinstance(k, tuple) else k for c, k in kinds.items()}
    return {c.model_type: (c, kind) for c, kind in first.items()}


def _configured(name: str, model: nn.Module) -> Size:
    configuration: Any = model.config
    side = getattr(configuration, "image_size", 224)
    sides = (side, side) if isinstance(side, int) else tuple(side)
    return (getattr(configuration, "num_channels", 3), *sides)


def _pytorchcv_families() -> dict[str, str]:
    import_torchvision()
    builders: Mapping[str, Any] = importlib.import_module("pytorchcv.model_provider")._models
    families = {name: _module(builder) for name, builder in builders.items()}
    return {name: family for name, family in families.items() if family not in _PYTORCHCV_OTHERS}


def _pytorchcv(name: str) -> nn.Module:
    provider = importlib.import_module("pytorchcv.model_provider")
    model: nn.Module = provider.get_model(name, pretrained=False)
    return model


def _pytorchcv_size(name: str, model: nn.Module) -> Size:
    in_size: Any = getattr(model, "in_size", (224, 224))
    channels = inspect.signature(type(model)).parameters.get("in_channels")
    return (3 if channels is None else int(channels.default), *in_size)


def _module(builder: Any) -> str:
    """A family is the module that its builders are written in."""
    return str(builder.__module__).rpartition(".")[2]


def _of_builders(name: str, groups: Sequence[Builders]) -> Library:
    def group_of(model: str) -> Builders:
        return next(group for group in groups if model in group.families())

    return Library(
        name,
        lambda: {model: f for group in groups for model, f in group.families().items()},
        lambda model: group_of(model).build(model),
        lambda model, built: group_of(model).size,
    )


LIBRARIES: Mapping[str, Library] = {
    library.name: library
    for library in (
        Library("torchvision", _torchvision_families, _torchvision, lambda name, model: (3, 224, 224)),
        Library(
            "timm", _timm_families, _timm,
            kind=lambda family: "CNNs" if family in _CONVOLUTIONAL else "hybrids",
        ),
        Library(
            "transformers", _transformers_families, _transformers, _configured,
            lambda name: "CNNs" if name in _TRANSFORMERS_CONVOLUTIONAL else "hybrids",
        ),
        Library("pytorchcv", _pytorchcv_families, _pytorchcv, _pytorchcv_size),
        *(_of_builders(name, groups) for name, groups in OTHERS.items()),
    )
}  # fmt: skip


def on_meta(library: Library, name: str) -> nn.Module:
    """A model without values; built with them first where its constructor asks for some."""
    with contextlib.suppress(RuntimeError, NotImplementedError), torch.device("meta"):
        return library.build(name)
    return library.build(name).to("meta")
