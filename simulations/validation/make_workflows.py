#!/usr/bin/env python3
"""Writes the workflows of the comparison: python3 make_workflows.py DIRECTORY

Needs the PyPI package wfcommons 1.6. Its generator makes graphs of about 1,000 tasks in the shape of
Epigenomics, Montage and BWA; what the simulator does not read is dropped, names are shortened, and the
tasks are put into topological order.
"""

import json
import pathlib
import random
import sys

import numpy
from wfcommons import WorkflowGenerator
from wfcommons.wfchef.recipes import BwaRecipe, EpigenomicsRecipe, MontageRecipe

RECIPES = {"epigenomics": EpigenomicsRecipe, "montage": MontageRecipe, "bwa": BwaRecipe}


def topological(tasks):
    done, order = set(), []
    while tasks:
        ready = [task for task in tasks if all(parent in done for parent in task["parents"])]
        order += ready
        done |= {task["id"] for task in ready}
        tasks = [task for task in tasks if task["id"] not in done]
    return order


def slim(document):
    specification = document["workflow"]["specification"]
    files = {file["id"]: f"f{n}" for n, file in enumerate(specification["files"])}
    tasks = topological(specification["tasks"])
    names = {task["id"]: f"{task['name']}_{n}" for n, task in enumerate(tasks)}
    return {
        "name": document["name"],
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {
                        "name": task["name"],
                        "id": names[task["id"]],
                        "parents": [names[parent] for parent in task["parents"]],
                        "inputFiles": [files[file] for file in task["inputFiles"]],
                        "outputFiles": [files[file] for file in task["outputFiles"]],
                    }
                    for task in tasks
                ],
                "files": [
                    {"id": files[file["id"]], "sizeInBytes": file["sizeInBytes"]}
                    for file in specification["files"]
                ],
            },
            "execution": {
                "tasks": [
                    {"id": names[task["id"]], "runtimeInSeconds": task["runtimeInSeconds"]}
                    for task in document["workflow"]["execution"]["tasks"]
                ]
            },
        },
    }


def main():
    directory = pathlib.Path(sys.argv[1])
    for name, recipe in RECIPES.items():
        random.seed(1)
        numpy.random.seed(1)
        full = directory / f"{name}.full"
        WorkflowGenerator(recipe.from_num_tasks(1000)).build_workflow().write_json(full)
        small = json.dumps(slim(json.loads(full.read_text())), separators=(",", ":"))
        (directory / f"{name}.json").write_text(small + "\n")
        full.unlink()


main()
