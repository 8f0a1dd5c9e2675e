"""A sample is counted for the innermost layer that it passed through."""

from benchmarks.profile import by_function, by_layer, stacks

RAW = """\
_run (asyncio/events.py:80);_execute (tornado/web.py:1);verify (tornado_members/auth/tokens.py:9) 3
_run (asyncio/events.py:80);_execute (tornado/web.py:1);parse (tornado/httputil.py:200) 2
_run_once (asyncio/base_events.py:80);select (selectors.py:468) 4
<module> (program.py:1) 1
run (threading.py:2);_worker (concurrent/futures/thread.py:81);wait (threading.py:320) 50
"""


def test_samples_are_counted_by_layer_and_by_function() -> None:
    seen = list(stacks(RAW.splitlines()))
    assert by_layer(seen) == {
        "ours: auth": 3,
        "Tornado: routes and handlers": 2,
        "asyncio: loop, tasks, time-outs": 4,
        "other": 1,
    }
    assert by_function(seen)["`verify` (auth/tokens.py)"] == 3
