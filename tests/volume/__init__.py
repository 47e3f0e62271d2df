"""Operations on very many jobs: what each call costs Redis, whether they can be stopped, and what workers notice.

`python -m tests.volume` (make volume) runs them on a million jobs and prints tables; `test_short.py` on a few thousand.
"""
