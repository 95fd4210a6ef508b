"""What every execution provider promises; a new one is adopted by being there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from onnxpress import registry
from onnxpress.errors import EngineError, InputError
from onnxpress.provider import Provider, parse_provider, provider_of
from onnxpress.wishes import wishes_of

DOCS = Path(__file__).parents[2] / "docs"
GOOD = {"switch": "on", "integer": "1", "bytes": "1.5GB", "text": "x:1x3,y:2", "path": "a/b"}
BAD = {"switch": "maybe", "integer": "1.5", "bytes": "2 apples", "choice": "none of them"}

every_provider = pytest.mark.parametrize("name", registry.names("providers"))


@every_provider
def test_it_is_found_by_each_of_its_names(name: str) -> None:
    provider = registry.create(Provider, "providers", name)
    short = provider.title.removesuffix("ExecutionProvider")
    for called in (provider.title, provider.title.upper(), short, name, *provider.aliases):
        assert type(provider_of(called)) is type(provider)


@every_provider
def test_it_says_what_people_must_know(name: str) -> None:
    provider = registry.create(Provider, "providers", name)
    for text in (provider.hardware, provider.needs, provider.use_when, provider.limits):
        assert text.endswith((".", ")."))
    assert provider.source.startswith("https://")
    assert type(provider).__doc__


@every_provider
def test_its_options_are_typed(name: str) -> None:
    provider = registry.create(Provider, "providers", name)
    if provider.options is None:
        assert provider.checked({"anything": "goes"}) == {"anything": "goes"}
        return
    for key, option in provider.options.items():
        good = option.choices[-1].lower() if option.choices else GOOD[option.kind]
        (value,) = provider.checked({key: good}).values()
        assert provider.checked({key: value}) == {key: value}
        if option.kind in BAD:
            with pytest.raises(InputError, match=f"option {key}="):
                provider.checked({key: BAD[option.kind]})
    with pytest.raises(InputError, match=f"{provider.title} has no option 'no_such_option'"):
        provider.checked({"no_such_option": "1"})


def test_all_of_the_installed_onnxruntime_are_known() -> None:
    import onnxruntime

    titles = {
        registry.create(Provider, "providers", name).title for name in registry.names("providers")
    }
    assert set(onnxruntime.get_all_providers()) <= titles


def test_options_are_read_as_onnxruntime_takes_them() -> None:
    assert parse_provider("cuda:gpu_mem_limit=2GiB, use_tf32=off") == (
        "CUDAExecutionProvider",
        {"gpu_mem_limit": str(2 << 30), "use_tf32": "0"},
    )
    name, options = parse_provider("trt:trt_profile_min_shapes=x:1x3,y:2x3,trt_fp16_enable=true")
    assert (name, options["trt_profile_min_shapes"]) == ("TensorrtExecutionProvider", "x:1x3,y:2x3")
    assert options["trt_fp16_enable"] == "1"
    for text in ("cuda:gpu_mem_limit", "cuda:=1", "cuda:,"):
        with pytest.raises(InputError, match="NAME or NAME:key=value"):
            parse_provider(text)
    with pytest.raises(InputError, match="no option 'gpu_mem_limt'; expected one of gpu_mem_limit"):
        parse_provider("cuda:gpu_mem_limt=1")


@every_provider
def test_what_is_not_here_is_an_error_with_what_to_install(name: str) -> None:
    import onnxruntime

    provider = registry.create(Provider, "providers", name)
    if provider.title in onnxruntime.get_available_providers():
        assert wishes_of(provider=name).provider == provider.title
        return
    with pytest.raises(EngineError, match="is not in this onnxruntime; expected one of") as caught:
        wishes_of(provider=name)
    if provider.package not in ("", "onnxruntime"):
        assert f"pip install {provider.package}" in str(caught.value)


def test_the_page_says_what_the_classes_say() -> None:
    spec = importlib.util.spec_from_file_location("providers_page", DOCS / "providers_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (DOCS / "providers.md").read_text(encoding="utf-8")
    assert module.page(text) == text, "run: make docs"
