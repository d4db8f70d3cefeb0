"""The steps of an audit, one file each: parameters, version, cost and the computation.

```
LoadImages -> DrawSplits -> TrainModel -> QuantizeModel -> QueryModel
           -> AttackTargets, ChooseThresholds -> MeasureVariant -> rows
           -> MeasurePower, MeasureMemorisation
```

`bitleak.steps.step` describes the interface, `registry.STEPS` lists the steps by the name of their folder in the store,
and `bitleak.audit.graph` decides which steps an audit takes.
"""
