"""A configuration with every key of the contract in it, and how the tests read one."""

from runtime.config import Config

CONTRACT = b"""
[provider.main]
kind = "openai"
base_url = "https://api.holysheep.ai/v1"
api_key_env = "HOLYSHEEP_API_KEY"

[model.strong]
provider = "main"
name = "claude-opus-4-5"
tier = 3
price = { input = 5.0, output = 25.0 }

[limits.main]
requests_per_minute = 3000
burst = 10
tokens_per_minute = 400000
concurrency = 64
ageing = 60.0

[limits."main/claude-opus-4-5"]
output_tokens_per_minute = 80000
concurrency = 8

[flows.acme]
weight = 3

[roles.coder]
model = "strong"
system_prompt = "Write it."
prompt = "Implement: {subtask}"
temperature = 0.2
max_tokens = 2048
timeout = 50
max_retries = 1
history_tokens = 4000
instances = 2
agent = "mypkg.agents:Translator"

[team]
workflow = "mypkg.flows:MyWorkflow"
plan = "never"
max_rounds = 0
accept_score = 8
max_subtasks = 6
max_parallel = 3

[retry]
base = 1
factor = 3.0
cap = 60.0

[budget]
usd = 5.0

[executor]
enabled = false

[system]
dispatcher = "threads"
"""
MAIN = '[provider.main]\nbase_url = "https://a.example/v1"\n'
STRONG = MAIN + '[model.strong]\nprovider = "main"\nname = "big"\n'


def parse(text):
    return Config.parse(text.encode() if isinstance(text, str) else text, "team.toml")
