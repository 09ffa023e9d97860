"""Draw what the README shows: `python tests/studies/ship.py` writes outputs/shipped/ anew from the shipped weights.

It is the only program that writes there; what a user draws goes to outputs/, which git ignores. With --train it trains
the weights first. Three minutes on two cores. The picture of the page, explore.png, is a screenshot made by hand.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "outputs" / "shipped"
COMMANDS = (
    ("sparse_l1.py",),
    ("sparse_kl.py",),
    ("sparse_ksparse.py", "--k", "5", "10", "25", "50", "100"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the weights anew")
    more = ["--train"] if parser.parse_args().train else []
    for script, *options in COMMANDS:
        subprocess.run([sys.executable, ROOT / script, *options, *more, "--output-dir", SHIPPED], check=True)
    subprocess.run(
        [sys.executable, ROOT / "tests" / "studies" / "sparsity.py", "--output", SHIPPED / "sparsity.png"], check=True
    )


if __name__ == "__main__":
    main()
