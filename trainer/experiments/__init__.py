"""Experiments: variants x data sets x seeds x modes, run with real processes, and the tables, plots and logs of them.

`schema` is what a user writes and `reading` its YAML; `data` and `plan` turn it into runs, each with a folder of its
own; `running` does one run (with `job` as the process that trains without a coordinator), `schedule` several at once,
`progress` shows them; `record` is what a run leaves; `means`, `tables`, `sheets` and `plots` are what is made of all
records, and `tracking` hands them on. `experiment` puts these together.
"""
