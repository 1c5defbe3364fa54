"""Requests that join and leave while others run, as a server needs it: python examples/session.py MODEL."""

import sys
from contextlib import closing

import open_exaone as ox
from open_exaone.base.records import Request

engine = ox.Engine(ox.load_model(sys.argv[1]), ox.load_tokenizer(sys.argv[1]))


def ask(question: str) -> Request:
    messages = ({"role": "user", "content": question},)
    ids = engine.tokenizer.render(messages, thinking=True, generation_prompt=True)
    return Request(messages, tuple(ids), thinking=True, sampling=ox.Sampling(max_new_tokens=64))


with closing(engine.open_session()) as session:
    first, second = session.submit([ask("What is 17 + 25?"), ask("What is 40 - 8?")])
    session.step()
    session.submit([ask("What is 3 * 14?")])  # joins the others
    session.cancel(second)  # its client has gone
    while not session.finished:
        num_tokens, done = session.step()
        for sample in done:
            completion = sample.completion(engine.model.version)
            print(sample.request.messages[0]["content"], completion.stop, len(completion.ids))
