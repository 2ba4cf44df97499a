"""``runs list|show|compare|clean``: what the runs below a folder reached, and what can be removed of them."""

from __future__ import annotations

from argparse import Namespace

from eir_seq.commands.parser import UserParser
from eir_seq.remote import named_by_url


def run(arguments: list[str]) -> int:
    """Run one of the commands about runs."""
    parser = UserParser(prog="python -m eir_seq runs", description="What runs reached, and what they left.")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="list|show|compare|clean", parser_class=UserParser
    )
    listing = commands.add_parser("list", help="all runs below a folder: how each ended, and what it reached")
    listing.add_argument("folder", nargs="?", default="runs", help="a folder, also by URL; default: runs")
    showing = commands.add_parser("show", help="one run: config, data, metrics, size, and how it continues")
    showing.add_argument("folder", metavar="RUN", help="a run folder, also by URL")
    comparing = commands.add_parser(
        "compare",
        help="runs side by side: one row per setting, over seeds and folds, with a page",
        description="Compare the runs below a folder. Writes compare.csv, compare.md and compare.html there.",
    )
    comparing.add_argument("folder", help="a sweep, or any folder with runs below it, also by URL")
    comparing.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="KEY",
        help="one row per value of this config key, over all other keys; may be given again",
    )
    comparing.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY",
        help="a config key that repeats a run, as seed and data.split_seed do, e.g. data.train; may be given again",
    )
    comparing.add_argument(
        "--metric",
        metavar="NAME",
        help="compare by this metric instead of the monitored one, e.g. sentiment.auroc or test.sentiment.auroc",
    )
    cleaning = commands.add_parser(
        "clean",
        help="remove old checkpoints of finished runs and left caches, after asking",
        description="Remove checkpoints that finished runs left, those of trials that were pruned or took too long, "
        "caches in run folders, and what killed processes left. Running runs, bundles, best weights and reports stay.",
    )
    cleaning.add_argument("folder", help="any folder with runs below it")
    cleaning.add_argument("--yes", action="store_true", help="do not ask")
    cleaning.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    cleaning.add_argument(
        "--optimizer-state",
        action="store_true",
        help="also what trainer.keep_optimizer_state kept; the runs can then no longer be extended",
    )
    for command in (listing, showing, comparing, cleaning):
        command.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    flags = parser.parse_args(arguments)
    with named_by_url():
        _run(flags)
    return 0


def _run(flags: Namespace) -> None:
    if flags.command == "compare":
        from eir_seq.commands.runs.comparing import compare_runs

        compare_runs(flags.folder, over=flags.over, by=flags.by, metric=flags.metric, as_csv=flags.csv)
    elif flags.command == "list":
        from eir_seq.commands.runs.listing import list_runs

        list_runs(flags.folder, as_csv=flags.csv)
    elif flags.command == "show":
        from eir_seq.commands.runs.showing import show_run

        show_run(flags.folder, as_csv=flags.csv)
    else:
        from eir_seq.commands.runs.cleaning import clean_runs

        clean_runs(flags.folder, last=flags.optimizer_state, yes=flags.yes, dry_run=flags.dry_run, as_csv=flags.csv)
