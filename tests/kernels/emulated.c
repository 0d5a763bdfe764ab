/* Runs a plan that Python has written down, from standard input, and writes the logits behind each part of a text to
 * standard output: whole graphs on processors that are emulated, where there is no Python. tests/kernels/test_neon.py
 * writes it; both machines are of 64 bits and keep the low byte first, so that structures are the same. */
#define _GNU_SOURCE
#include <stdio.h>
#include "program.c"

typedef struct {
    int64_t bytes; /* of what follows the header */
    int64_t list, rooms, shapes, ids, parts; /* where each lies in it */
    int32_t ops, threads, places, layers, tokens, blocks, head, heads, capacity, buffer, offset, vocab, part_count;
} Header;

static void *room(size_t bytes) {
    void *found = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!found) exit(3);
    return memset(found, 0, (bytes + 63) / 64 * 64);
}

/* An address is stored as its place in the file and one; 0 is none. */
static void *placed(uint8_t *file, const void *stored) { return stored ? file + (uintptr_t)stored - 1 : NULL; }

int main(void) {
    Header h;
    if (fread(&h, sizeof h, 1, stdin) != 1) return 2;
    uint8_t *file = room((size_t)h.bytes);
    if (fread(file, 1, (size_t)h.bytes, stdin) != (size_t)h.bytes) return 2;
    Op *ops = (Op *)(file + h.list);
    for (int i = 0; i < h.ops; i++) {
        for (int j = 0; j < 4; j++) ops[i].data[j] = placed(file, ops[i].data[j]);
        ops[i].matrix.panels = placed(file, ops[i].matrix.panels);
    }
    const Room *rooms = (const Room *)(file + h.rooms);
    float **buffers = room((size_t)h.places * sizeof *buffers);
    for (int i = 0; i < h.places; i++) buffers[i] = room((size_t)rooms[i].rows * (size_t)rooms[i].width * sizeof(float));
    size_t blocks = (size_t)h.tokens * (size_t)h.blocks;
    Acts acts = {room(blocks * BLOCK), room(blocks * 4), room(blocks * 4), room(blocks * 4)};
    Plan plan = {h.ops, h.threads, ops, buffers, acts, rooms, h.places, h.layers, h.tokens, h.blocks};
    int wrong = pg_unsound(&plan, h.head);
    if (wrong >= 0) return fprintf(stderr, "step %d is not sound\n", wrong), 4;
    Run *run = pg_open(&plan, h.head, 0);
    void **keys = room((size_t)h.layers * sizeof *keys), **values = room((size_t)h.layers * sizeof *values);
    const int32_t *shapes = (const int32_t *)(file + h.shapes); /* heads of keys and their size, by layers */
    for (int i = 0; i < h.layers; i++) {
        size_t bytes = (size_t)shapes[2 * i] * (size_t)h.capacity * (size_t)shapes[2 * i + 1] * sizeof(half);
        keys[i] = room(bytes), values[i] = room(bytes);
    }
    if (!run || pg_cache(run, (void *)keys, (void *)values, h.capacity, h.heads, h.head)) return 3;
    float **inputs = room((size_t)h.ops * sizeof *inputs);
    for (int i = 0; i < h.ops; i++)
        if (ops[i].kind == CAUSAL_CONV)
            inputs[ops[i].layer] = room((size_t)h.capacity * (size_t)ops[i].width * sizeof(float));
    pg_conv_inputs(run, inputs);
    float **states = room((size_t)h.ops * sizeof *states);
    for (int i = 0; i < h.ops; i++)
        if (ops[i].kind == LINEAR_ATTN)
            states[ops[i].layer] = room((size_t)ops[i].width * (size_t)ops[i].extra * sizeof(float));
    pg_states(run, states);
    const int64_t *ids = (const int64_t *)(file + h.ids);
    const int32_t *parts = (const int32_t *)(file + h.parts);
    for (int i = 0, start = 0; i < h.part_count; start += parts[i++]) {
        if (pg_run(run, ids + start, parts[i], start) >= 0) return 5;
        fwrite(buffers[h.buffer] + h.offset, sizeof(float), (size_t)h.vocab, stdout);
    }
    pg_close(run);
    return 0;
}
