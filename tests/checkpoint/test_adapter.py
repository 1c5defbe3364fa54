"""Adapters on disk: what PEFT writes we read and the other way round; what is broken is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from doubles import TINY, make_model, make_tokenizer, random_ids
from open_exaone.base.errors import CheckpointError
from open_exaone.checkpoint.adapter import Merged, load_adapter, read_adapter, save_adapter
from open_exaone.checkpoint.convert import convert
from open_exaone.checkpoint.folder import load_model, load_weights, save_model
from open_exaone.checkpoint.weights import save_weights
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora, lora_weights, merge_lora
from open_exaone.model.lora_config import LoraConfig

CONFIG = LoraConfig(rank=4, alpha=10.0)


def config_of(family):
    return TINY.model_copy(update={"family": family, "width": 64})


def adapted(family="exaone4", config=CONFIG):
    """A model with adapters that do something."""
    model = make_model(config_of(family))
    add_lora(model, config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in lora_weights(model).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def save_base(folder, family="exaone4"):
    model = make_model(config_of(family))
    save_model(folder, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    return folder


def save(folder, model=None, config=CONFIG, **options):
    save_adapter(folder, model or adapted(config=config), config, base="some/base", **options)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("family", ["exaone4", "exaone", "llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_written_and_read_it_is_the_same_to_the_bit(tmp_path, family, targets):
    config = CONFIG.model_copy(update={"targets": targets, "use_rslora": True})
    model, other = adapted(family, config), make_model(config_of(family))
    save(tmp_path, model, config)
    read = load_adapter(other, tmp_path)
    assert read.projections == config.projections and read.scale == config.scale
    ids_BT = random_ids(2, 9)
    assert torch.equal(other(ids_BT), model(ids_BT))
    assert {n for n, weight in other.named_parameters() if weight.requires_grad} == set(lora_weights(model))


def test_exaone_3s_adapters_bear_its_own_names(tmp_path):
    save(tmp_path, adapted("exaone"))
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.transformer.h.2.attn.attention.out_proj.lora_A.weight" in names
    assert "base_model.model.transformer.h.0.mlp.c_fc_0.lora_B.weight" in names
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(values["target_modules"]) == {"q_proj", "k_proj", "v_proj", "out_proj", "c_fc_0", "c_fc_1", "c_proj"}


@torch.no_grad()
@pytest.mark.parametrize("family", ["exaone4", "llama"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_peft_opens_ours(tmp_path, family, use_rslora):
    peft = pytest.importorskip("peft")
    config = CONFIG.model_copy(update={"use_rslora": use_rslora})
    model = adapted(family, config)
    save(tmp_path / "adapter", model, config)
    base = AutoModelForCausalLM.from_pretrained(save_base(tmp_path / "base", family), dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids_BT = random_ids(2, 9)
    torch.testing.assert_close(model(ids_BT), theirs(ids_BT).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", ["exaone4", "llama"])
@pytest.mark.parametrize("options", [{"target_modules": "all-linear"}, {"target_modules": ["v_proj"], "r": 3}])
@pytest.mark.parametrize("layers", [None, [0, 2]])
def test_we_open_pefts(tmp_path, family, options, layers):
    peft = pytest.importorskip("peft")
    if layers and options["target_modules"] == "all-linear":
        options = {**options, "target_modules": ["k_proj", "up_proj"]}
    given = peft.LoraConfig(task_type="CAUSAL_LM", lora_alpha=6, use_rslora=True, layers_to_transform=layers, **options)
    base = AutoModelForCausalLM.from_pretrained(save_base(tmp_path / "base", family), dtype=torch.float32)
    theirs = peft.get_peft_model(base, given).eval()
    torch.manual_seed(0)
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            weight.normal_(std=0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_model(tmp_path / "base", dtype="float32")
    load_adapter(ours, tmp_path / "adapter")
    ids_BT = random_ids(2, 9)
    torch.testing.assert_close(ours(ids_BT), theirs(ids_BT).logits, rtol=1e-4, atol=1e-4)
    save(tmp_path / "again", ours, load_adapter(make_model(config_of(family)), tmp_path / "adapter"))
    again = make_model(config_of(family))
    load_adapter(again, tmp_path / "again")
    assert torch.equal(again(ids_BT), ours(ids_BT))


@torch.no_grad()
def test_merged_weights_are_those_of_the_merged_model(tmp_path):
    base = save_base(tmp_path / "base")
    save(tmp_path / "adapter")
    model = adapted()
    merge_lora(model)
    merged = Merged(load_weights(base), read_adapter(tmp_path / "adapter", model.config))
    assert list(merged) == list(load_weights(base)) and len(merged) == len(list(merged))
    (tmp_path / "out").mkdir()
    save_weights(tmp_path / "out", model.config, merged)
    (tmp_path / "out" / "config.json").write_bytes((base / "config.json").read_bytes())
    opened = load_model(tmp_path / "out", dtype="float32")
    for (name, weight), other in zip(opened.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(weight, other), name


@torch.no_grad()
@pytest.mark.parametrize(("family", "to"), [("exaone4", None), ("exaone", "llama")])
def test_converting_with_an_adapter_gives_a_plain_model_that_computes_the_same(tmp_path, family, to):
    save_base(tmp_path / "base", family)
    model = adapted(family)
    save(tmp_path / "adapter", model)
    convert(tmp_path / "base", tmp_path / "out", to=to, adapter=tmp_path / "adapter")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids_BT = random_ids(2, 9)
    torch.testing.assert_close(theirs(ids_BT).logits, model(ids_BT), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(make_model(config_of(family))(ids_BT), model(ids_BT), rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_a_sum_that_does_not_fit_is_not_written(tmp_path):
    model = adapted()
    for weight in lora_weights(model).values():
        weight.fill_(300.0)
    save(tmp_path, model)
    half = {name: weight.half() for name, weight in make_model(config_of("exaone4")).named_parameters()}
    with pytest.raises(CheckpointError, match=r"layers\.0.*does not fit into torch.float16"):
        dict(Merged(half, read_adapter(tmp_path, model.config)))


def test_masters_are_saved_in_float32_and_the_bases_licence_comes_along(tmp_path):
    base = save_base(tmp_path / "base")
    (base / "LICENSE").write_text("as you like it")
    model = adapted().to(torch.bfloat16)
    optimizer = MasterOptimizer(model, None, OptimizerConfig(kind="adamw", learning_rate=1e-3))
    save_adapter(tmp_path / "adapter", model, CONFIG, base=base, weights=optimizer.masters)
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert len(stored) == len(optimizer.masters) == len(lora_weights(model))
    assert (tmp_path / "adapter" / "LICENSE").read_text() == "as you like it"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora = True"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 0}, "r: .*greater than 0"),
        ({"r": None}, "r: "),
        ({"r": 10**9}, "r: "),
        ({"r": 5}, "has shape"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"lora_dropout": 2.0}, "lora_dropout"),
        ({"lora_dropout": []}, "lora_dropout"),
        ({"use_rslora": "yes"}, "use_rslora"),
    ],
)
def test_a_config_of_something_else_is_refused_by_its_key(tmp_path, changes, said):
    path = save(tmp_path) / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=said):
        read_adapter(tmp_path, config_of("exaone4"))


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(f"{Q}.lora_A.weight"), "q_proj.lora_A.weight is missing"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.full((4, 64), torch.nan)}), "holds NaN"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 64, dtype=torch.int8)}), "no numbers"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(4, 63)}), r"has shape \(4, 63\)"),
        (lambda t: t.update({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 64)}), "lm_head.* no matrix"),
        (lambda t: t.clear(), "holds no tensor"),
    ],
)
def test_broken_tensors_are_refused_by_name(tmp_path, change, said):
    path = save(tmp_path) / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=said):
        read_adapter(tmp_path, config_of("exaone4"))


def test_missing_and_cut_files_are_named(tmp_path):
    save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors: cannot be read"):
        read_adapter(tmp_path, config_of("exaone4"))
    path.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickle"):
        read_adapter(tmp_path, config_of("exaone4"))
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="must hold an object"):
        read_adapter(tmp_path, config_of("exaone4"))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: no such file"):
        read_adapter(tmp_path, config_of("exaone4"))


def test_another_models_adapter_leaves_the_model_as_it_was(tmp_path):
    save(tmp_path, adapted("llama"))
    model = make_model(TINY)  # another width
    with pytest.raises(CheckpointError, match="has shape"):
        load_adapter(model, tmp_path)
    assert not lora_weights(model) and all(weight.requires_grad for weight in model.parameters())
