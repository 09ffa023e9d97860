"""Draw what the README and the page show: `python tests/studies/ship.py DIR ...` writes outputs/shipped/ and
explore/models/ anew.

It takes the shipped weights, or with --train trains them first; and for sparsity.png clones of the documents' networks,
as originals.py wants them. What a user draws goes to outputs/, which git ignores. Eight minutes on two cores. The
picture of the page, explore.png, is a screenshot made by hand.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import methods  # noqa: E402

STUDIES = ROOT / "tests" / "studies"
SHIPPED = ROOT / "outputs" / "shipped"
COMMANDS = (
    ("sparse_l1.py",),
    ("sparse_kl.py",),
    ("sparse_ksparse.py", "--k", "5", "10", "25", "50", "100"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the weights anew")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="clones of the documents' networks")
    options = parser.parse_args()
    more = ["--train"] if options.train else []
    for script, *asked in COMMANDS:
        subprocess.run([sys.executable, ROOT / script, *asked, *more, "--output-dir", SHIPPED], check=True)
    subprocess.run([sys.executable, ROOT / "explore" / "write.py", *methods.SHIPPED], check=True)
    for study, picture in (("plain", "plain_and_ours.png"), ("learning", "learning.png")):
        subprocess.run([sys.executable, STUDIES / f"{study}.py", "--output", SHIPPED / picture], check=True)
    sparsity = [STUDIES / "sparsity.py", *options.folders, "--output", SHIPPED / "sparsity.png"]
    subprocess.run([sys.executable, *sparsity], check=True)


if __name__ == "__main__":
    main()
