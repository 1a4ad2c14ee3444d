"""`uad batch`: many scans in, their maps out, with the model loaded once."""

from __future__ import annotations

from dataclasses import replace

from uadcli.batches.options import ClusterOptions, Request
from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.console import print_result
from uadcli.device import yield_cores


@grouped(o.Network, in_batch=True)
def batch(request: Request, cluster: ClusterOptions, talk: o.RecordedTalk) -> None:
    """Write the anomaly maps of many brain scans, skipping those that are done.

    Also writes summary.tsv and failed.tsv. For research only, not for diagnosis.
    """
    yield_cores()  # before torch is loaded
    with talk.reporter() as reporter:
        from uadcli.batches import batch as run
        from uadcli.batches import cluster as clusters

        request = replace(request, options=replace(request.options, command=talk.command))
        printed, result = clusters.carry_out(request, cluster, reporter)
    print_result(printed, end="")
    run.refuse_failed(result)
