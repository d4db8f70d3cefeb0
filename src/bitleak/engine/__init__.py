"""Tasks, the store that keeps their results, and the workers that compute them.

```
keys       canonical JSON, and the key of a task: a hash of everything that can change its result
artifacts  one file per artifact: .npy, .safetensors, .json
manifest   identity and environment of a finished task, and the digests of its files
store      finished tasks by key; a manifest exists = it is done
backends   where a store's files are: a folder, or objects under a URL
codecs     core types <-> artifacts
graph      the unfinished tasks, their order, and the batches that share work
threads    one thread for a CPU task in every executor
worker     one batch of tasks: inputs from the store, a stage called by name, results into the store
executors  where workers live: `serial` in this process, `processes` one per core, `ray` on many machines
time_left  seconds for the unfinished tasks
simulate   duration of a graph on a number of workers, by playing its schedule through
execution  the loop that drives a graph through an executor
```

Nothing here depends on the meaning of a stage: stages are found by name, neither imported nor
listed.
"""
