import pytest

from bitleak.engine.graph import Graph, batches, descendants
from bitleak.engine.keys import Task

DATA = Task("data", "1")
MODELS = [
    Task("train", "1", {"seed": seed}, {"data": DATA.key}, label=f"model {seed}")
    for seed in range(3)
]
QUERIES = [Task("query", "1", {}, {"weights": model.key, "data": DATA.key}) for model in MODELS]
ATTACK = Task("attack", "1", {}, {"outputs": tuple(query.key for query in QUERIES)})
ALL = [ATTACK, *QUERIES, *MODELS, DATA]


class Shelf:
    def __init__(self, *tasks):
        self.keys = {task.key for task in tasks}

    def has(self, task: Task) -> bool:
        return task.key in self.keys


def test_every_task_comes_after_its_inputs():
    order = list(Graph(ALL).tasks)
    assert len(order) == len(ALL)
    for task in ALL:
        assert all(order.index(key) < order.index(task.key) for key in task.input_keys)


def test_the_order_is_that_of_the_list_where_inputs_allow():
    assert list(Graph(ALL).tasks.values()) == [
        DATA,
        MODELS[0],
        QUERIES[0],
        MODELS[1],
        QUERIES[1],
        *MODELS[2:],
        *QUERIES[2:],
        ATTACK,
    ]
    assert list(Graph([DATA, *reversed(MODELS)]).tasks.values()) == [DATA, *reversed(MODELS)]


def test_everything_is_to_do_in_an_empty_store():
    graph = Graph(ALL)
    assert graph.pending(Shelf()) == list(graph.tasks.values())


def test_results_in_the_store_need_no_inputs():
    pending = Graph(ALL).pending(Shelf(QUERIES[0], QUERIES[2]))
    assert pending == [DATA, MODELS[1], QUERIES[1], ATTACK]
    assert Graph(ALL).pending(Shelf(*QUERIES)) == [ATTACK]
    assert Graph(ALL).pending(Shelf(ATTACK)) == []


def test_only_what_is_wanted_is_to_do():
    assert Graph(ALL, wanted=[QUERIES[1].key]).pending(Shelf(DATA)) == [MODELS[1], QUERIES[1]]


def test_an_input_that_nobody_makes_is_refused():
    with pytest.raises(ValueError, match="inputs of model 0 must be results of the graph's tasks"):
        Graph(MODELS[:1])
    with pytest.raises(ValueError, match="wanted results must be"):
        Graph(ALL, wanted=["0" * 64])


def test_a_circle_is_refused():
    first, second = Task("a", "1", {}, {"b": "2" * 64}), Task("b", "1", {}, {"a": "1" * 64})
    first.__dict__["key"], second.__dict__["key"] = "1" * 64, "2" * 64  # no honest hash can do this
    with pytest.raises(ValueError, match="need each other in a circle: a 11111111, b 22222222"):
        Graph([first, second])


def test_the_same_task_twice_is_one_task():
    again = Task("data", "1", label="once more")
    assert [task.label for task in Graph([DATA, again]).tasks.values()] == [""]


def quantize(
    levels: int, model: Task = MODELS[0], version: str = "1", group: str | None = "obc"
) -> Task:
    return Task("quantize", version, {"levels": levels}, {"weights": model.key}, group=group)


def test_tasks_of_a_group_are_handed_over_together():
    together = [quantize(4), quantize(3)]
    others = [
        quantize(2, MODELS[1]),
        quantize(5, version="2"),
        quantize(6, group="rtn"),
        quantize(7, group=None),
        quantize(8, group=None),
    ]
    found = batches([together[0], *others, together[1]])
    assert [list(batch.tasks) for batch in found] == [together, *([other] for other in others)]


def test_descendants_are_all_that_need_a_task():
    order = list(Graph(ALL).tasks.values())
    assert descendants(order, MODELS[1].key) == [QUERIES[1], ATTACK]
    assert descendants(order, DATA.key) == order[1:]
    assert descendants(order, ATTACK.key) == []
