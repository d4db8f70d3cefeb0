"""Tasks, the store that keeps what they made, and the workers that do them.

```
keys       canonical JSON, and the key of a task: a hash of everything that can change its result
artifacts  one file per artifact: .npy, .safetensors, .json
manifest   what a finished task was, and the digests of its files
store      finished tasks by key; a manifest exists = it is done
backends   where a store's files are: a folder, or objects under a URL
codecs     core types <-> artifacts
graph      which tasks are to do, in which order, and which are handed over together
threads    one thread for a CPU task, whoever runs it
worker     one batch of tasks: inputs from the store, a stage called by name, results into the store
executors  where workers live: `serial` in this process, `processes` one per core, `ray` on many machines
time_left  seconds for the unfinished tasks
simulate   how long so many workers would take, played through
execution  the loop that drives a graph through an executor
```

Nothing here knows what a stage does: stages are found by name, and neither imported nor listed.
"""
