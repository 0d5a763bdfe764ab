/* One token's step, taken by whichever threads are running: nobody waits for a thread that has lost its core.
 *
 * With one row a step is hundreds of pieces of work of a few microseconds, and where other programs want the same cores,
 * a thread that is put off for a millisecond would hold up all others at the next meeting. So pieces belong to nobody:
 *   - a product's panels are in as many shares as there are threads. Each takes pieces of its own share, in order, so
 *     that it reads one stream, and then of the others'.
 *   - what a piece gives stays with its thread until the whole of it is there; then it is put in place at one go. Threads
 *     that have waited for long compute again what others have begun: whoever is first puts it in place, and the others
 *     throw their copies away. All have the same bits.
 *   - what goes row by row changes its buffers in place. Whoever comes first does all of it up to the next product,
 *     and that has to be waited for.
 * Everything is counted under the number of the step: a thread that comes back late finds nothing left of its step, and
 * goes on with what the others are at. It may then still be reading what nobody needs any more, so before memory is
 * given back, `pool_settle`.
 */
#ifndef PLAYGROUND_SHARES_H
#define PLAYGROUND_SHARES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "rows.h"
#include "run.h"

#ifndef LATE_NS
#define LATE_NS 40000L /* most pieces take less to wait for, a thread that lost its core is away for milliseconds */
#endif
#define PIECE_BYTES 262144 /* of weights, unless one panel has more */
#define PIECE_PANELS 64
#define PIECES 4           /* of a share, at least */

/* -- counting, under the number of a step ------------------------------------------------------------------------- */

/* Numbers that the largest piece gives. */
static size_t result_floats(const Plan *plan, int max_size) {
    size_t product = (size_t)PIECE_PANELS * PANEL, attention = (size_t)MAX_QUERIES * ((size_t)max_size + 2);
    size_t most = product > attention ? product : attention;
    for (int i = 0; i < plan->ops; i++) {
        const Op *op = plan->list + i;
        size_t state = op->kind == LINEAR_ATTN ? (size_t)op->shape.size * ((size_t)op->extra + 1) : 0;
        if (state > most) most = state;
    }
    return (most + 15) / 16 * 16;
}

INLINE uint64_t under(uint32_t step, uint32_t count) { return (uint64_t)step << 32 | count; }
INLINE int is_newer(uint64_t word, uint32_t step) { return (int32_t)((uint32_t)(word >> 32) - step) > 0; }
INLINE uint32_t counted(uint64_t word, uint32_t step) { return (uint32_t)(word >> 32) == step ? (uint32_t)word : 0; }

/* Takes up to `wanted` of `size` things in order: the first of them, and how many in `got`; 0 where none are left. */
static uint32_t take_some(atomic_ullong *counter, uint32_t step, uint32_t size, uint32_t wanted, uint32_t *got) {
    unsigned long long word = atomic_load_explicit(counter, memory_order_relaxed);
    for (;;) {
        uint32_t from = counted(word, step), n = size - from < wanted ? size - from : wanted;
        if (is_newer(word, step) || from >= size) return *got = 0;
        if (atomic_compare_exchange_weak_explicit(counter, &word, under(step, from + n), memory_order_acq_rel,
                                                  memory_order_relaxed))
            return *got = n, from;
    }
}

static void add_done(atomic_ullong *counter, uint32_t step, uint32_t n) {
    unsigned long long word = atomic_load_explicit(counter, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(counter, &word, under(step, counted(word, step) + n),
                                                  memory_order_acq_rel, memory_order_relaxed)) {}
}

/* -- pieces -------------------------------------------------------------------------------------------------------- */

/* Work on shares: panels of a product, chunks of attention, or heads with states. */
typedef struct {
    const Op *op;
    int place;                    /* in the list */
    uint32_t units, most, pieces; /* all of it, and how much is taken at once: at most, and so many pieces of a share */
    int end, first, chunks;       /* positions up to this one; of attention: the first chunk that is seen, and how many */
} Work;

/* `start` is the step's own: in `r` there may be that of a later one. */
static Work work_of(const Run *r, int place, int start) {
    const Op *op = r->plan.list + place;
    Work work = {.op = op, .place = place, .pieces = 1, .most = 1};
    if (op->kind == MUL_MAT) {
        size_t most = PIECE_BYTES / panel_bytes(&op->matrix);
        work.units = (uint32_t)(op->matrix.outputs / PANEL);
        work.most = most < 1 ? 1 : most > PIECE_PANELS ? PIECE_PANELS : (uint32_t)most;
        work.pieces = PIECES;
    } else if (op->kind == MUL_MAT_ID) {
        work.units = (uint32_t)(op->extra * (op->width / PANEL));
        work.most = PIECE_BYTES / panel_bytes(&op->matrix) < 1 ? 1 : PIECE_BYTES / panel_bytes(&op->matrix);
        work.most = work.most > PIECE_PANELS ? PIECE_PANELS : work.most;
        work.pieces = PIECES;
    } else if (op->kind == LINEAR_ATTN) {
        work.units = (uint32_t)op->shape.heads;
        work.end = start + 1;
    } else {
        const Shape *s = &op->shape;
        work.end = start + 1;
        work.first = (s->window && work.end > s->window ? work.end - s->window : 0) / CHUNK;
        work.chunks = (work.end + CHUNK - 1) / CHUNK - work.first;
        work.units = (uint32_t)(s->heads / s->groups * work.chunks);
    }
    return work;
}

INLINE float *result_of(const Run *r, const Work *work, uint32_t unit, size_t *floats) {
    const Op *op = work->op;
    if (op->kind == MUL_MAT || op->kind == MUL_MAT_ID) return *floats = PANEL, at(r, op->dst[0], 0) + (size_t)unit * PANEL;
    const Shape *s = &op->shape;
    int chunk = work->first + (int)unit % work->chunks, head = (int)unit / work->chunks;
    *floats = (size_t)s->groups * (s->size + 2);
    return r->parts + ((size_t)chunk * s->heads + (size_t)head * s->groups) * (s->size + 2);
}

static void compute(Run *r, const Work *work, uint32_t from, uint32_t n, float *out, float *own) {
    const Op *op = work->op;
    if (op->kind == MUL_MAT) {
        Matrix part = op->matrix;
        part.panels = (const uint8_t *)part.panels + from * panel_bytes(&part);
        part.outputs = (int)n * PANEL;
        mul_mat(&part, r->plan.acts, 1, 0, (int)n, out, (size_t)part.outputs);
    } else if (op->kind == MUL_MAT_ID) {
        uint32_t each = (uint32_t)op->width / PANEL;
        for (uint32_t unit = from; unit < from + n; unit++) {
            int part = (int)(unit / each);
            int expert = place_below(at(r, op->src[0], 0)[part], op->matrix.outputs / op->width);
            Matrix panel = op->matrix;
            panel.panels = (const uint8_t *)panel.panels + (expert * each + unit % each) * panel_bytes(&panel);
            panel.outputs = PANEL;
            mul_mat(&panel, acts_of(op, r, 0, part), 1, 0, 1, out + (size_t)(unit - from) * PANEL, PANEL);
        }
    } else if (op->kind == LINEAR_ATTN) { /* one at a time; the state stays as it is until all is put in place */
        const float *before = work->end > 1 ? state_of(op, r, (int)from) : NULL;
        linear_attn_head(op, r, 0, (int)from, before, out + op->shape.size, out);
    } else {
        int head = (int)from / work->chunks, chunk = work->first + (int)from % work->chunks;
        flash_attn_one(op, r, work->end, head, chunk, out, own);
    }
}

static void put_head(const Op *op, Run *r, int head, const float *result) {
    size_t width = (size_t)op->shape.size;
    if (!is_finite_head(op, r, 0, head)) is_broken(r, op);
    memcpy(at(r, op->dst[0], 0) + (size_t)head * width, result, width * sizeof(float));
    memcpy(state_of(op, r, head), result + width, (size_t)op->extra * width * sizeof(float));
}

static void put_in_place(Run *r, const Work *work, uint32_t from, uint32_t n, const float *results) {
    if (work->op->kind == LINEAR_ATTN) return put_head(work->op, r, (int)from, results);
    size_t floats;
    float *to = result_of(r, work, from, &floats);
    memcpy(to, results, n * floats * sizeof(float));
    if (work->op->kind != FLASH_ATTN && !all_finite(results, n * floats)) is_broken(r, work->op);
}

/* Computes a piece in the open, by this thread's own claim, and puts it in place unless another has done so meanwhile. */
static void finish(Run *r, const Work *work, Claim *claim, uint32_t step, uint32_t from, uint32_t n, int thread) {
    unsigned long long mine = atomic_load_explicit(&claim->state, memory_order_relaxed) / STATES * STATES + STATES;
    float *out = r->own[thread];
    MAY_LOSE_CORE();
    atomic_store_explicit(&claim->place, work->place, memory_order_relaxed);
    atomic_store_explicit(&claim->step, step, memory_order_relaxed);
    atomic_store_explicit(&claim->from, from, memory_order_relaxed);
    atomic_store_explicit(&claim->n, n, memory_order_relaxed);
    atomic_store_explicit(&claim->state, mine + COMPUTING, memory_order_release);
    MAY_LOSE_CORE();
    compute(r, work, from, n, out, out + r->result);
    MAY_LOSE_CORE();
    unsigned long long expected = mine + COMPUTING;
    if (!atomic_compare_exchange_strong_explicit(&claim->state, &expected, mine + STORING, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return;
    MAY_LOSE_CORE();
    put_in_place(r, work, from, n, out);
    atomic_store_explicit(&claim->state, mine + STORED, memory_order_release);
    MAY_LOSE_CORE();
    add_done(r->done + work->place, step, n);
}

/* One piece of any share, this thread's own first. 0 where all are taken. */
static int take_piece(Run *r, const Work *work, uint32_t step, int thread) {
    int threads = r->plan.threads;
    for (int i = 0; i < threads; i++) {
        int of = thread + i < threads ? thread + i : thread + i - threads;
        uint32_t begin = (uint32_t)((uint64_t)work->units * of / threads);
        uint32_t size = (uint32_t)((uint64_t)work->units * (of + 1) / threads) - begin;
        uint32_t wanted = (size + work->pieces - 1) / work->pieces, got;
        if (wanted > work->most) wanted = work->most;
        uint32_t from = take_some(r->next_piece + (size_t)of * r->plan.ops + work->place, step, size, wanted, &got);
        if (got) return finish(r, work, r->claims + thread, step, begin + from, got, thread), 1;
    }
    return 0;
}

/* Does again what another thread has begun and not put in place. 0 where there is no such piece. */
static int take_over(Run *r, const Work *work, uint32_t step, int thread) {
    float *out = r->own[thread];
    for (int other = 0; other < r->plan.threads; other++) {
        Claim *claim = r->claims + other;
        unsigned long long state = atomic_load_explicit(&claim->state, memory_order_acquire);
        if (other == thread || state % STATES != COMPUTING) continue;
        uint32_t from = atomic_load_explicit(&claim->from, memory_order_relaxed);
        uint32_t n = atomic_load_explicit(&claim->n, memory_order_relaxed);
        int same = atomic_load_explicit(&claim->place, memory_order_relaxed) == work->place &&
                   atomic_load_explicit(&claim->step, memory_order_relaxed) == step;
        MAY_LOSE_CORE();
        atomic_thread_fence(memory_order_acquire);
        if (!same || atomic_load_explicit(&claim->state, memory_order_relaxed) != state) continue;
        compute(r, work, from, n, out, out + r->result);
        MAY_LOSE_CORE();
        /* Only now: as long as the claim stands as it was, nobody has put the piece in place, and all it is made of is
         * as it was, too. */
        if (atomic_compare_exchange_strong_explicit(&claim->state, &state, state - COMPUTING + TAKEN_OVER,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            put_in_place(r, work, from, n, out);
            MAY_LOSE_CORE();
            add_done(r->done + work->place, step, n);
        }
        return 1;
    }
    return 0;
}

/* -- the step ------------------------------------------------------------------------------------------------------ */

/* Memory that will be read next: a waiting thread asks for it, line by line. */
typedef struct {
    const uint8_t *from, *to;
} Ahead;
#ifndef LOOKAHEAD
#define LOOKAHEAD (256 * 1024)
#endif

INLINE int is_done(const Run *r, int place, uint32_t step, uint32_t units) {
    uint64_t word = atomic_load_explicit(r->done + place, memory_order_acquire);
    return is_newer(word, step) || counted(word, step) == units;
}

/* Until all of it is in place. Whoever waits asks for the weights that come next, then does again what is late. */
static void wait_for(Run *r, const Work *work, uint32_t step, int place, uint32_t units, int thread, Ahead ahead) {
    long since = 0;
    for (int looks = 0; !is_done(r, place, step, units); looks++) {
        if (ahead.from < ahead.to) __builtin_prefetch(ahead.from), ahead.from += 64;
        else if (looks % 64) RELAX();
        else {
            long now = now_ns();
            if (!since) since = now;
            if (now - since <= LATE_NS) continue;
            if (work && take_over(r, work, step, thread)) since = 0;
            else sched_yield();
        }
    }
}

/* What a thread may ask for while it waits: the beginning of its share of the next product. */
static Ahead wanted_next(const Run *r, int place, int thread) {
    if (r->next[place] < 0) return (Ahead){NULL, NULL};
    const Matrix *m = &r->plan.list[r->next[place]].matrix;
    size_t panels = (size_t)(m->outputs / PANEL), threads = (size_t)r->plan.threads;
    size_t begin = panels * (size_t)thread / threads, end = panels * ((size_t)thread + 1) / threads;
    size_t share = (end - begin) * panel_bytes(m);
    const uint8_t *from = (const uint8_t *)m->panels + begin * panel_bytes(m);
    return (Ahead){from, from + (share < LOOKAHEAD ? share : LOOKAHEAD)};
}

/* All of one token's step that this thread gets. */
static void one_token(void *with, int thread) {
    Run *r = with;
    const Plan *plan = &r->plan;
    uint64_t now = atomic_load_explicit(&r->step, memory_order_acquire);
    uint32_t step = (uint32_t)(now >> 32), got;
    MAY_LOSE_CORE();
    for (int place = 0; place < plan->ops;) {
        const Op *op = plan->list + place;
        MAY_LOSE_CORE();
        if (!by_rows(op->kind)) {
            Work work = work_of(r, place, (int)(uint32_t)now);
            while (take_piece(r, &work, step, thread)) {}
            wait_for(r, &work, step, place, work.units, thread, wanted_next(r, place, thread));
            place++;
            continue;
        }
        int end = place;
        while (end < plan->ops && by_rows(plan->list[end].kind)) end++;
        take_some(r->next_piece + place, step, 1, 1, &got);
        if (got) {
            for (int i = place; i < end; i++) {
                if (plan->list[i].kind == CAUSAL_CONV) keep_input(plan->list + i, r, 0);
                if (plan->list[i].kind == ATTN_REDUCE) attn_reduce(plan->list + i, r);
                else row_of(plan->list + i, r, 0, 1);
            }
            add_done(r->done + place, step, 1);
        } else wait_for(r, NULL, step, place, 1, thread, wanted_next(r, place, thread));
        place = end;
    }
}

#endif
