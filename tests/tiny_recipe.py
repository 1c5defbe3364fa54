"""A recipe with every kind of stage that runs in seconds; it teaches the model little."""

RECIPE = """
name = "tiny"
engine = { kind = "local", num_slots = 32 }
disjoint = true

[model]
vocab_size = 512
width = 32
num_layers = 2
num_heads = 2
num_kv_heads = 1
head_width = 16
ffn_width = 64
max_positions = 256

[data]
test = { sources = [{ families = ["height_order", "bus_ride"], num_problems = 12 }] }
rl = { sources = [{ families = ["height_order"], num_problems = 24 }] }
preference = { sources = [{ families = ["height_order"], num_problems = 24 }] }
sft = { sources = [{ families = ["height_order"], num_problems = 80, with_thoughts_only = true }] }
base = { sources = [{ families = ["height_order", "bus_ride"], num_problems = 160 }] }

[evaluation]
data = "test"
num_samples = 2
max_new_tokens = 64
faithfulness = 6

[[stages]]
kind = "base"
name = "base"
data = "base"
num_epochs = 4
batch_documents = 16
checkpoint_steps = 5
optimizer = { learning_rate = 5e-3 }

[[stages]]
kind = "sft"
name = "sft"
data = "sft"
num_epochs = 16
batch_documents = 16
checkpoint_steps = 20
optimizer = { learning_rate = 1e-2, matrix_learning_rate = 2e-2 }

[[stages]]
kind = "preference"
name = "prefer"
data = "preference"
max_new_tokens = 64
batch_pairs = 1
num_samples = 8
checkpoint_steps = 1
optimizer = { learning_rate = 1e-4, matrix_learning_rate = 1e-3 }

[[stages]]
kind = "rl"
name = "rl"
data = "rl"
num_steps = 3
batch_prompts = 4
group_size = 4
max_new_tokens = 64
checkpoint_steps = 1
rubric = { wrong = 0.1 }
optimizer = { learning_rate = 1e-4, matrix_learning_rate = 1e-3 }

[quick]
"sft.num_epochs" = 1
"data.test.sources.0.num_problems" = 6
"""
