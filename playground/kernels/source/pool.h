/* Threads that work in step: the caller and its helpers run one function together and meet at barriers.
 *
 * A step of a small model is hundreds of pieces of work of a few microseconds each, so whoever waits looks again and
 * again instead of sleeping; after a while it lets others have the core, and between two steps it goes to sleep.
 */
#ifndef PLAYGROUND_POOL_H
#define PLAYGROUND_POOL_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif
#ifndef MAY_LOSE_CORE
#define MAY_LOSE_CORE() /* tests put threads to sleep here */
#endif
#define LOOKS 4000        /* before others may have the core: longer than any two threads are apart in even work */
#define AWAKE_NS 2000000L /* between two steps, before a helper sleeps */
#define PART_NS 10000000L /* between two attempts of a helper to have a core of its own */

/* Two kinds of work: in lock step, where every thread has its part, and shared, where whoever comes has some. */
typedef struct Pool {
    int threads, started;
    int awake; /* whether helpers look for work a while before they sleep */
    pthread_t *helpers;
    void (*in_step)(void *, int), (*shared)(void *, int);
    void *with;
    _Alignas(64) atomic_uint generation; /* of work: even numbers are in lock step, odd ones shared */
    atomic_int inside;                   /* helpers that are at work, or look what it is */
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint phase;
    atomic_int leaving, sleeping;
    atomic_long waited; /* nanoseconds of this step that threads waited for others beyond the usual */
    atomic_int parting; /* whether one of them is on its way to another core */
    atomic_int *cores;  /* where each thread was when it began its last work; -1: not known */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} Pool;

typedef struct {
    Pool *pool;
    int thread;
} Helper;

static long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* For how long this thread has had a core. */
static long ran_ns(void) {
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

/* -- a core for each ------------------------------------------------------------------------------------------------- */

/* At times threads that slept are woken on one core, where they take turns at every meeting until the system looks whether
 * another one is idle, which it does at a timer's ticks: 5 ms and more of a prompt that needs 19 (docs/engine.md). So a
 * helper that finds itself on the core of a thread before it goes to one that none of them is on, if it may use any; it
 * may use all again as soon as it is there, and the system has the last word. */
#ifdef __linux__
#ifndef CORE_NOW
#define CORE_NOW() sched_getcpu()
#endif
/* Those of `all` cores that none of the first `count` threads but this one is on. */
static cpu_set_t free_of(const Pool *pool, cpu_set_t all, int thread, int count) {
    for (int i = 0; i < count; i++) {
        int core = i == thread ? -1 : atomic_load_explicit(&pool->cores[i], memory_order_relaxed);
        if (core >= 0 && core < CPU_SETSIZE) CPU_CLR(core, &all);
    }
    return all;
}
static int elsewhere(const Pool *pool, int thread, int here) {
    cpu_set_t all, others;
    if (sched_getaffinity(0, sizeof all, &all)) return here;
    others = free_of(pool, all, thread, pool->threads);
    if (!CPU_COUNT(&others)) others = free_of(pool, all, thread, thread); /* where later ones were may be long ago */
    if (!CPU_COUNT(&others) || sched_setaffinity(0, sizeof others, &others)) return here;
    here = CORE_NOW();
    sched_setaffinity(0, sizeof all, &all);
    return here;
}
static void begin_on_core(Pool *pool, int thread, long *parted) {
    int here = CORE_NOW(), crowded = 0;
    for (int i = 0; i < thread; i++) crowded |= atomic_load_explicit(&pool->cores[i], memory_order_relaxed) == here;
    /* Two that part at once would go to the same core: who comes second does so at its next step. */
    if (here >= 0 && crowded && now_ns() - *parted > PART_NS && !atomic_exchange(&pool->parting, 1)) {
        here = elsewhere(pool, thread, here);
        atomic_store_explicit(&pool->cores[thread], here, memory_order_relaxed);
        atomic_store(&pool->parting, 0);
        *parted = now_ns();
    } else {
        atomic_store_explicit(&pool->cores[thread], here, memory_order_relaxed);
    }
}
#else
static void begin_on_core(Pool *pool, int thread, long *parted) { (void)pool, (void)thread, (void)parted; }
#endif

/* -- working together ------------------------------------------------------------------------------------------------ */

static void barrier(Pool *pool) {
    if (pool->threads == 1) return;
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)pool->threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
        return;
    }
    long since = 0;
    for (int looks = 0; atomic_load_explicit(&pool->phase, memory_order_acquire) == phase; looks++) {
        if (looks < LOOKS) RELAX();
        else {
            if (!since) since = now_ns();
            sched_yield();
        }
    }
    if (since) atomic_fetch_add_explicit(&pool->waited, now_ns() - since, memory_order_relaxed);
}

static void *helper(void *given) {
    Helper me = *(Helper *)given;
    Pool *pool = me.pool;
    free(given);
    unsigned seen = 0;
    long parted = now_ns() - 2 * PART_NS;
    for (;;) {
        long until = now_ns() + (pool->awake ? AWAKE_NS : 0);
        while (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen && now_ns() < until)
            for (int i = 0; i < 50; i++) RELAX();
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->sleeping, 1);
            while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
            atomic_fetch_sub(&pool->sleeping, 1);
            pthread_mutex_unlock(&pool->mutex);
        }
        MAY_LOSE_CORE();
        atomic_fetch_add(&pool->inside, 1);
        MAY_LOSE_CORE();
        seen = atomic_load(&pool->generation); /* shared work may be over, and other work be there */
        if (atomic_load(&pool->leaving)) return atomic_fetch_sub(&pool->inside, 1), NULL;
        begin_on_core(pool, me.thread, &parted);
        if (seen % 2) pool->shared(pool->with, me.thread);
        else {
            pool->in_step(pool->with, me.thread);
            barrier(pool);
        }
        atomic_fetch_sub(&pool->inside, 1);
    }
}

/* Until no helper is at work any more: one that lost its core may still be at shared work that is over. */
static void pool_settle(Pool *pool) {
    while (atomic_load(&pool->inside)) sched_yield();
}

static void call_helpers(Pool *pool, unsigned kind) {
    long unused = 0;
    begin_on_core(pool, 0, &unused);
    unsigned generation = atomic_load(&pool->generation);
    atomic_store(&pool->generation, generation + 2 - (generation + kind) % 2);
    if (!atomic_load(&pool->sleeping)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Runs `in_step(with, thread)` on every thread; returns when all are done. To be settled before. */
static void together(Pool *pool) {
    if (pool->threads > 1) call_helpers(pool, 0);
    pool->in_step(pool->with, 0);
    barrier(pool);
}

/* Runs `shared(with, thread)` here, and on helpers as they come; returns when it is done here. */
static void shared(Pool *pool) {
    if (pool->threads > 1) call_helpers(pool, 1);
    pool->shared(pool->with, 0);
}

static void pool_close(Pool *pool) {
    if (!pool) return;
    atomic_store(&pool->leaving, 1);
    call_helpers(pool, 0);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->helpers[i], NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->wake);
    free(pool->helpers);
    free(pool->cores);
    free(pool);
}

/* NULL where there is no memory, or a thread could not be started. */
static Pool *pool_open(int threads, int awake, void (*in_step)(void *, int), void (*shared)(void *, int), void *with) {
    Pool *pool = aligned_alloc(64, (sizeof(Pool) + 63) / 64 * 64);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->threads = threads, pool->awake = awake;
    pool->in_step = in_step, pool->shared = shared, pool->with = with;
    pool->helpers = calloc((size_t)threads, sizeof(pthread_t));
    pool->cores = malloc((size_t)threads * sizeof(atomic_int));
    if (!pool->helpers || !pool->cores || pthread_mutex_init(&pool->mutex, NULL))
        return free(pool->helpers), free(pool->cores), free(pool), NULL;
    if (pthread_cond_init(&pool->wake, NULL)) {
        pthread_mutex_destroy(&pool->mutex);
        return free(pool->helpers), free(pool->cores), free(pool), NULL;
    }
    for (int i = 0; i < threads; i++) atomic_store(&pool->cores[i], -1);
    for (int i = 1; i < threads; i++) {
        Helper *me = malloc(sizeof *me);
        if (me) *me = (Helper){pool, i};
        if (!me || pthread_create(&pool->helpers[i - 1], NULL, helper, me)) {
            free(me);
            pool_close(pool);
            return NULL;
        }
        pool->started++;
    }
    return pool;
}

#endif
