"""Threads that were woken on one core part; where there is no other core they stay, and don't try it over and over.

The C that decides is run here on a made-up machine, for which core wakes a thread is the system's choice.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from playground.kernels.building import obstacle
from tests.support import kernel_sets

pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or ""),
    kernel_sets.needs_compiler,
    pytest.mark.skipif(platform.system() != "Linux", reason="only Linux says on which core a thread is"),
]

DRIVER = """
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int machine, fails;
static _Thread_local int core;  /* every thread begins on the first */
static atomic_int narrowed, widened;

static int get(cpu_set_t *set) {
    CPU_ZERO(set);
    for (int i = 0; i < machine; i++) CPU_SET(i, set);
    return 0;
}
static int set(const cpu_set_t *to) {
    if (fails) return -1;
    atomic_fetch_add(CPU_COUNT(to) == machine ? &widened : &narrowed, 1);
    usleep(2000);  /* as long as another thread needs to choose the same */
    for (int i = 0; i < machine && !CPU_ISSET(core, to); i++)
        if (CPU_ISSET(i, to)) core = i;
    return 0;
}
#define CORE_NOW() core
#define sched_getaffinity(pid, size, to) get(to)
#define sched_setaffinity(pid, size, from) set(from)
#include "pool.h"

static int where[64], back;
static void work(void *with, int thread) {
    (void)with;
    where[thread] = core;
    if (back) core = 0;  /* the system puts it back */
}
/* argv: threads, cores, steps, whether all are put back after each, whether the system refuses, microseconds between */
int main(int n, char **v) {
    if (n < 7) return 1;
    int threads = atoi(v[1]);
    machine = atoi(v[2]), back = atoi(v[4]), fails = atoi(v[5]);
    Pool *pool = pool_open(threads, 1, work, work, NULL);
    long began = now_ns();
    for (int step = 0; step < atoi(v[3]); step++) {
        together(pool);
        pool_settle(pool);
        usleep((useconds_t)atoi(v[6]));
    }
    for (int i = 0; i < threads; i++) printf("%d ", where[i]);
    printf("%d %d %ld\\n", narrowed, widened, (now_ns() - began) / PART_NS);
    pool_close(pool);
    return 0;
}
"""


@dataclass(frozen=True)
class Driven:
    """Attributes:
    where: Each thread's core in the last step.
    narrowed, widened: How often a thread's cores were.
    tries: As many as a thread may make in the time that it took, but for the first.
    """

    where: list[int]
    narrowed: int
    widened: int
    tries: int


Drive = Callable[..., Driven]


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    folder = tmp_path_factory.mktemp("cores")
    (folder / "driver.c").write_text(DRIVER)
    options = ["-std=gnu11", "-pthread"]
    driver = kernel_sets.compile_c("scalar", options, folder / "driver.c", folder / "driver")

    def run(
        threads: int, cores: int, steps: int = 1, *, back: bool = False, fails: bool = False, between_us: int = 0
    ) -> Driven:
        numbers = [threads, cores, steps, int(back), int(fails), between_us]
        done = subprocess.run([driver, *map(str, numbers)], capture_output=True, text=True, check=True, timeout=60)
        *where, narrowed, widened, tries = map(int, done.stdout.split())
        return Driven(where, narrowed, widened, tries)

    return run


@pytest.mark.parametrize(("threads", "cores"), [(2, 2), (2, 4), (3, 3), (4, 4), (4, 8)])
def test_each_has_a_core_of_its_own_and_may_use_all_again(drive: Drive, threads: int, cores: int) -> None:
    done = drive(threads, cores, steps=threads, between_us=8000)  # one after the other
    assert len(set(done.where)) == threads
    assert done.where[0] == 0  # the caller stays
    assert done.narrowed == done.widened == threads - 1


def test_who_has_one_is_left_there(drive: Drive) -> None:
    done = drive(3, 4, steps=20, between_us=2000)
    assert len(set(done.where)) == 3
    assert done.narrowed == 2


def test_more_threads_than_cores_use_all_cores(drive: Drive) -> None:
    done = drive(4, 2, steps=4, between_us=8000)
    assert set(done.where) == {0, 1}
    assert done.narrowed == done.widened <= 3


def test_with_one_core_nobody_goes(drive: Drive) -> None:
    done = drive(3, 1, steps=5, between_us=12_000)
    assert (done.where, done.narrowed, done.widened) == ([0, 0, 0], 0, 0)


def test_who_is_put_back_goes_again_but_not_at_each_step(drive: Drive) -> None:
    at_once = drive(2, 2, steps=200, back=True)
    assert 1 <= at_once.narrowed <= 1 + at_once.tries
    assert drive(2, 2, steps=5, back=True, between_us=15_000).narrowed == 5


def test_where_the_system_refuses_the_work_is_done(drive: Drive) -> None:
    done = drive(3, 4, steps=3, fails=True, between_us=12_000)
    assert (done.where, done.narrowed, done.widened) == ([0, 0, 0], 0, 0)
