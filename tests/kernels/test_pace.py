"""Steps are taken together or alone, whichever was lately faster, and finding that out costs little.

The C that decides is run here on made-up times, so that neither the machine nor its neighbours decide about the test.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playground.kernels.building import SOURCE, build, compiler, obstacle
from playground.runtimes.native.engine import open_kernels
from playground.runtimes.native.lowering import read_program
from tests.support import kernel_graphs

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include "pace.h"
/* argv: steps, then "from together alone waits spread" for each stretch of time, in milliseconds; prints the time each
 * way would take, the time that was taken, and how often the caller worked alone. */
int main(int n, char **v) {
    int steps = atoi(v[1]), alone = 0;
    double took = 0, both[2] = {0, 0};
    unsigned seed = 1;
    Pace pace = {0};
    for (int i = 0; i < steps; i++) {
        double ns[2] = {1, 1}, waits = 0, spread = 0;
        for (int at = 2; at + 4 < n; at += 5)
            if (i >= atoi(v[at])) {
                for (int k = 0; k < 2; k++) ns[k] = 1e6 * atof(v[at + 1 + k]);
                waits = atof(v[at + 3]), spread = atof(v[at + 4]);
            }
        double r = ((seed = seed * 1103515245u + 12345u) >> 16 & 0x7fff) / 32768.0;
        double factor = 1 + spread * (2 * r - 1);
        int way = pace_way(&pace);
        alone += way;
        for (int k = 0; k < 2; k++) both[k] += ns[k] * factor;
        took += ns[way] * factor;
        pace_took(&pace, ns[way] * factor, way ? 0 : waits * ns[0] * factor);
    }
    printf("%f %f %f %d\\n", both[0], both[1], took, alone);
    return 0;
}
"""

QUOTA = """
#include <stdio.h>
#include <stdlib.h>
#include "pace.h"
/* argv: steps of one token, cores' worth of time in each period of 100 ms, milliseconds of a step by `threads` together
 * and by the caller alone. Who has used the time up is stopped until the next period. Prints the time each way would
 * take, the time that was taken, and how often the caller worked alone. */
int main(int n, char **v) {
    if (n < 6) return 1;
    int steps = atoi(v[1]), threads = atoi(v[5]), alone = 0;
    double quota = 1e8 * atof(v[2]), all[3];
    for (int kind = 0; kind < 3; kind++) {
        Pace pace = {.longer = 1};
        double now = 0, used = 0;
        for (int i = 0; i < steps; i++) {
            int way = kind < 2 ? kind : pace_way(&pace);
            double left = 1e6 * atof(v[3 + way]), began = now, ran = 0, cores = way ? 1 : threads;
            while (left > 0) {
                double period = 1e8 * (long)(now / 1e8 + 1e-9) + 1e8;
                double can = (quota - used) / cores, until = period - now;
                double some = left < can ? left : can;
                if (some > until) some = until;
                now += some, ran += some, left -= some, used += some * cores;
                if (left > 0) now = period;
                if (now >= period) used = 0;
            }
            if (kind == 2) alone += way, pace_took(&pace, now - began, now - began - ran);
        }
        all[kind] = now;
    }
    printf("%f %f %f %d\\n", all[0], all[1], all[2], alone);
    return 0;
}
"""

STALL = """
#include <stdio.h>
#include <stdlib.h>
#include "pace.h"
/* argv: for how many milliseconds one step of one token has no core, and which; prints how often the caller worked
 * alone. */
int main(int n, char **v) {
    int alone = 0;
    Pace pace = {.longer = 1};
    for (int i = 0; n > 2 && i < 4000; i++) {
        double stall = i == atoi(v[2]) ? 1e6 * atof(v[1]) : 0;
        int way = pace_way(&pace);
        alone += way;
        pace_took(&pace, (way ? 6.5e6 : 5e6) + stall, stall);
    }
    printf("%d", alone);
    return 0;
}
"""

Stretch = tuple[int, float, float, float, float]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(DRIVER, tmp_path_factory.mktemp("pace"))


@pytest.fixture(scope="module")
def quota_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(QUOTA, tmp_path_factory.mktemp("quota"))


@pytest.fixture(scope="module")
def stall_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(STALL, tmp_path_factory.mktemp("stall"))


def compiled(driver: str, folder: Path) -> Path:
    command = compiler()
    if command is None:
        pytest.skip("there is no C compiler")
    (folder / "driver.c").write_text(driver)
    arguments = ["-O1", "-I", str(SOURCE), str(folder / "driver.c"), "-o", str(folder / "driver")]
    subprocess.run([*command, *arguments], check=True, capture_output=True)
    assert shutil.which(folder / "driver")
    return folder / "driver"


def run(driver: Path, steps: int, *stretches: Stretch) -> tuple[float, float, float, int]:
    """Time of all steps together, of all alone, the time taken, and how many were taken alone."""
    given = [str(number) for stretch in stretches for number in stretch]
    said = subprocess.run([str(driver), str(steps), *given], check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1]), float(said[2]), int(said[3])


def test_with_the_cores_to_itself_no_step_is_taken_alone(driver: Path) -> None:
    *_, alone = run(driver, 20_000, (0, 5.0, 9.0, 0.0, 0.1))
    assert alone == 0


def test_a_step_that_was_held_up_now_and_then_changes_nothing(driver: Path) -> None:
    held_up = [(at + far, together, 9.0, waits, 0.1) for at in range(0, 4000, 50) for far, together, waits in
               ((0, 5.0, 0.0), (49, 30.0, 0.9))]  # fmt: skip
    together, _, took, alone = run(driver, 4000, *held_up)
    assert alone == 0
    assert took == together


@pytest.mark.parametrize("ratio", [1.3, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_beside_busy_neighbours_it_is_nearly_as_fast_as_one_thread(driver: Path, ratio: float, spread: float) -> None:
    _, alone, took, _ = run(driver, 3000, (0, 10.0 * ratio, 10.0, 0.7, spread))
    assert took <= alone / 0.93


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_where_two_threads_wait_and_are_faster_all_the_same_they_stay_together(driver: Path, spread: float) -> None:
    together, _, took, _ = run(driver, 3000, (0, 10.0, 14.0, 0.5, spread))
    assert took <= together / 0.93


def test_neighbours_that_come_and_go_are_followed(driver: Path) -> None:
    quiet, shared = (5.0, 9.0, 0.0, 0.1), (50.0, 14.0, 0.8, 0.3)
    stretches = [(at, *(quiet if at % 2000 else shared)) for at in range(0, 8000, 1000)]
    together, alone, took, _ = run(driver, 8000, *stretches)
    best = 1e6 * (4000 * 5.0 + 4000 * 14.0)
    assert took <= best / 0.8, "each stretch lasts some ten seconds, of which noticing it takes a part"
    assert took < min(together, alone)


def test_soon_after_the_neighbours_left_threads_work_together_again(driver: Path) -> None:
    shared, quiet = (0, 60.0, 20.0, 0.8, 0.2), (1000, 5.0, 9.0, 0.0, 0.1)
    *_, before = run(driver, 1000, shared)
    *_, after = run(driver, 2000, shared, quiet)
    assert after - before < 200


@pytest.mark.parametrize("quota", [0.5, 1.0])
@pytest.mark.parametrize("threads", [2, 4])
def test_under_a_quota_one_thread_reads_as_much_in_less_time(quota_driver: Path, quota: float, threads: int) -> None:
    """Two threads are 1.3 times as fast as one and use a quota up in half of the time."""
    said = subprocess.run(
        [quota_driver, "16000", str(quota), "4.0", "5.2", str(threads)], check=True, capture_output=True, text=True
    )
    together, alone, took, _ = map(float, said.stdout.split())
    assert together > 1.3 * alone
    assert took <= alone / 0.93


def test_where_a_quota_stops_nobody_no_step_is_taken_alone(quota_driver: Path) -> None:
    said = subprocess.run([quota_driver, "4000", "2.0", "4.0", "5.2", "2"], check=True, capture_output=True, text=True)
    assert said.stdout.split()[3] == "0"


@pytest.mark.parametrize("stall_ms", [30, 300, 30_000])
@pytest.mark.parametrize("at", [0, 1000])
def test_a_process_that_was_stopped_goes_on_together(stall_driver: Path, stall_ms: int, at: int) -> None:
    said = subprocess.run([stall_driver, str(stall_ms), str(at)], check=True, capture_output=True, text=True)
    assert said.stdout == "0"


@pytest.mark.integration
def test_whether_the_caller_works_alone_changes_no_bit(tmp_path: Path) -> None:
    """Each step may be taken either way, so an answer is a mixture that nobody chose."""
    if reason := obstacle():
        pytest.skip(reason)
    library = build(tmp_path)
    program = kernel_graphs.write(kernel_graphs.eight_bits(), tmp_path) / "model.onnx"
    ids = [(7 * place + 3) % kernel_graphs.VOCAB for place in range(150)]

    def rows(ways: list[bool | None]) -> list[NDArray[Any]]:
        engine = open_kernels(library, read_program(program), 2)
        engine.reset(len(ids) + len(ways))
        found = []
        for place, alone in enumerate(ways):
            engine.take_steps(alone)
            found.append((engine.step(ids[place]) if place else engine.prefill(ids)).copy())
        engine.close()
        return found

    expected = rows([False] * 8)
    for ways in ([True] * 8, [True, False] * 4, [False, True, True, False, None, None, True, False]):
        assert all(np.array_equal(one, other) for one, other in zip(expected, rows(ways), strict=True))
