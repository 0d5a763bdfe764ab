/* Prints a checksum of what each operation of vec.h gives on many numbers, and of what is made of them: compiled for two
 * instruction sets, it says in what they differ. No numbers that are none: sets may differ there. */
#define _GNU_SOURCE
#include <stdio.h>
#include "program.c"

#define COUNT 4096 /* numbers, of which each operation sees sixteen at a time */

static uint64_t state, hash;
static uint32_t draw(void) { /* Knuth's MMIX constants */
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}
static void feed(const void *what, size_t bytes) { /* FNV-1a */
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)what)[i]) * 1099511628211u;
}
static void say(const char *name) {
    printf("%s %016llx\n", name, (unsigned long long)hash);
    hash = 14695981039346656037u;
}
static float number(float limit) { return ((float)draw() / 4294967296.0f * 2.0f - 1.0f) * limit; }

static float a[COUNT + 16], b[COUNT + 16], c[COUNT + 16], out[COUNT + 16];
static half narrow[COUNT + 16];

/* All sizes of numbers, subnormal and infinite ones, zeros, halves between whole numbers. */
static void fill(float *to) {
    static const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e-45f, -1e-40f, 3.4e38f, 65504.0f, 65519.9f, 65520.0f,
                                65536.0f, 5.9e-8f, 2.9e-8f, 6.1e-5f, 0.5f, 1.5f, -2.5f, 8388607.5f, 2147483520.0f};
    for (int i = 0; i < COUNT; i++)
        if (draw() % 16 == 0) to[i] = odd[draw() % (sizeof odd / sizeof *odd)];
        else if (draw() % 8 == 0) to[i] = (float)((int)(draw() % 4001) - 2000) / 2;
        else {
            int exponent = (int)(draw() % 252) - 126; /* before the number: compilers may choose which is drawn first */
            to[i] = ldexpf(number(1.0f), exponent);
        }
}
static void fill_within(float *to, float limit) {
    for (int i = 0; i < COUNT; i++) to[i] = number(limit);
}
static void feed_numbers(const float *x, int count) {
    for (int i = 0; i < count; i++)
        if (x[i] == x[i]) feed(x + i, sizeof *x);
        else feed("none", 4);
}

#define OPERATION(name, expression) \
    for (int i = 0; i < COUNT; i += 16) f_store(out + i, expression); \
    feed_numbers(out, COUNT), say(name)
#define A f_load(a + i)
#define B f_load(b + i)
#define C f_load(c + i)

static void operations(void) {
    fill(a), fill(b), fill(c);
    OPERATION("add", f_add(A, B));
    OPERATION("sub", f_sub(A, B));
    OPERATION("mul", f_mul(A, B));
    OPERATION("div", f_div(A, B));
    OPERATION("fma", f_fma(A, B, C));
    OPERATION("max", f_max(A, B));
    OPERATION("min", f_min(A, B));
    OPERATION("abs", f_abs(A));
    OPERATION("unless_below", f_unless_below(A, B, C));
    for (int i = 0; i < COUNT; i += 16) f_to_half(narrow + i, A);
    feed(narrow, COUNT * sizeof *narrow), say("to_half");
    for (int i = 0; i < 65536; i += 16) {
        half all[16];
        for (int j = 0; j < 16; j++) all[j] = (half)(i + j);
        f_store(out, f_half(all)), feed_numbers(out, 16);
    }
    say("half");
    for (int i = 0; i < 256; i += 16) {
        int8_t all[16];
        for (int j = 0; j < 16; j++) all[j] = (int8_t)(i + j);
        f_store(out, f_byte(all)), feed_numbers(out, 16);
    }
    say("byte");
    for (int i = 0; i < COUNT; i += 16) {
        float sums[2] = {f_hsum(A), f_hmax(A)};
        feed_numbers(sums, 2);
        v16i whole = i_of(A);
        int32_t sum = i_hsum(whole);
        int8_t bytes[16];
        i_to_bytes(bytes, whole), feed(&sum, 4), feed(bytes, 16);
        f_store(out, i_to_f(i_add(whole, i_set((int32_t)draw())))), feed(out, 64);
    }
    say("sums and whole numbers");
    fill_within(a, 120.0f), fill_within(b, 1.0f);
    OPERATION("round", f_round(A));
    OPERATION("power", f_power(B, f_round(A)));
    OPERATION("exp", f_exp(A));
    OPERATION("sigmoid", f_sigmoid(A));
    OPERATION("tanh", f_tanh(A));
    OPERATION("softplus", f_softplus(A));
    OPERATION("softcap", f_softcap(A, 30.0f));
    for (int i = 0; i + 1 < COUNT; i++) a[i] = ldexpf(1.0f + b[i], -12), c[i] = ldexpf(1.0f + b[i + 1], 13); /* ties */
    OPERATION("fma of near numbers", f_fma(A, B, C));
}

static _Alignas(64) uint8_t weights[64 * 64], packed[64 * 64]; /* drawn, and as a panel of this set has them */

static void bytes(void) {
    for (int i = 0; i < COUNT; i++) weights[i] = (uint8_t)draw(), packed[i] = (uint8_t)(weights[i] - 128 + BIAS8);
    for (int kind = 0; kind < 2; kind++) {
        for (int i = 0; i < COUNT; i += 64) {
            int8_t four_[4] = {127, -127, 127, -127};
            if (i) for (int j = 0; j < 4; j++) four_[j] = (int8_t)((int)(draw() % 255) - 127);
            /* with its bias every set has the same sum, which without one differs */
            int32_t acts = four(four_), bias = -BIAS8 * (four_[0] + four_[1] + four_[2] + four_[3]);
            bytes64 w = b_load((kind ? weights : packed) + i);
            v16i sum = kind ? sum4_whole(dot4(dot4(sum4_zero(), b_low(w), acts), b_high(w), acts))
                            : dot8(i_set(bias), w, acts);
            f_store(out, i_to_f(sum)), feed(out, 64);
        }
        say(kind ? "dot of four bits" : "dot of eight bits");
    }
    for (int i = 0; i < 64; i++) weights[i] = 0xff; /* a block's largest sums */
    for (int a = -128; a <= 127; a += 255) {
        sum4 sum = sum4_zero();
        int8_t four_[4] = {(int8_t)a, (int8_t)a, (int8_t)a, (int8_t)a};
        for (int quad = 0; quad < 8; quad++) sum = dot4(sum, b_high(b_load(weights)), four(four_));
        f_store(out, i_to_f(sum4_whole(sum))), feed(out, 64);
        if (out[0] != 32.0f * 15.0f * (float)a) printf("%d times 15 is off\n", a);
    }
    say("largest sums of four bits");
}

#define OUTPUTS 70
#define BLOCKS 5
#define MOST_TOKENS 13

static void products(int bits) {
    static uint8_t values[OUTPUTS * (BLOCKS + 1) * BLOCK];
    static float scales[OUTPUTS * (BLOCKS + 1)], x[MOST_TOKENS * BLOCKS * BLOCK], found[MOST_TOKENS * 3 * PANEL];
    static uint8_t zeros[OUTPUTS * (BLOCKS + 1)];
    static _Alignas(64) uint8_t panels[3 * BLOCKS * sizeof(Panel8)];
    static int8_t acts_bytes[MOST_TOKENS * BLOCKS * BLOCK];
    static float acts_scales[MOST_TOKENS * BLOCKS], acts_sums[MOST_TOKENS * BLOCKS];
    static int32_t acts_bias[MOST_TOKENS * BLOCKS];
    for (size_t i = 0; i < sizeof values; i++) values[i] = (uint8_t)draw();
    for (size_t i = 0; i < sizeof zeros; i++) zeros[i] = (uint8_t)draw();
    for (int i = 0; i < OUTPUTS * (BLOCKS + 1); i++) scales[i] = number(0.01f);
    for (int i = 0; i < MOST_TOKENS * BLOCKS * BLOCK; i++) x[i] = number(3.0f);
    Stored stored = {values, scales, bits == 4 ? zeros : NULL, bits, OUTPUTS, BLOCKS, bits == 4};
    float max = pg_max_scale(&stored);
    feed(&max, sizeof max);
    pg_pack(&stored, 64.0f, 0, 3, panels);
    Matrix m = {panels, bits, BLOCKS, 3 * PANEL, 1.0f / 64.0f};
    for (int rows = 1; rows <= MOST_TOKENS; rows++) {
        pg_product(&m, (Acts){acts_bytes, acts_scales, acts_sums, acts_bias}, x, BLOCKS * BLOCK - 3, rows, found);
        feed(found, sizeof(float) * (size_t)rows * 3 * PANEL);
    }
    say(bits == 8 ? "product in eight bits" : "product in four bits");
}

static void attention(void) {
    static float q[8 * 48], scores[8 * CHUNK], weighted[8 * 48], sofar[48];
    static half keys[48 * CHUNK];
    static _Alignas(4) int8_t narrow_keys[CHUNK * (48 + 2 * sizeof(float))], narrow_values[sizeof narrow_keys];
    for (int i = 0; i < 8 * 48; i++) q[i] = number(2.0f);
    fill_within(a, 2.0f);
    for (int i = 0; i < 48 * CHUNK; i += 16) f_to_half(keys + i, f_load(a + i));
    for (int i = 0; i < CHUNK; i++) {
        keep_key(a + i * 48, narrow_keys, 8, 48, i);
        keep_value(a + i * 48, narrow_values + (size_t)i * cache_bytes(8, 48), 8, 48);
    }
    feed(narrow_keys, sizeof narrow_keys), feed(narrow_values, sizeof narrow_values);
    widen_keys(keys, 16, 48, c);
    for (int rows = 1; rows <= 8; rows++) {
        float max = -INFINITY, sum = 0;
        scores_half(q, keys, 48, rows, scores), feed(scores, sizeof(float) * (size_t)rows * CHUNK);
        scores_byte(q, narrow_keys, 48, rows, scores), feed(scores, sizeof(float) * (size_t)rows * CHUNK);
        scores_float(q, c, 48, rows, scores), feed(scores, sizeof(float) * (size_t)rows * CHUNK);
        for (int r = 0; r < rows; r++) {
            float max2, sum2;
            softmax_chunk(scores + r * CHUNK, rows, 40 + 3 * rows, &max2, &sum2);
            weighted_byte(scores + r * CHUNK, narrow_values, 48, CHUNK, 1, weighted + r * 48);
            feed(weighted + r * 48, sizeof(float) * 48);
            weighted_half(scores + r * CHUNK, keys, 48, CHUNK, 1, weighted + r * 48);
            merge_partial(&max, &sum, sofar, max2, sum2, weighted + r * 48, 48);
        }
        weighted_float(scores, c, 48, CHUNK, rows, weighted);
        feed(weighted, sizeof(float) * (size_t)rows * 48), feed(sofar, sizeof sofar), feed(&sum, sizeof sum);
    }
    say("attention");
}

static void rows_(void) {
    fill_within(a, 4.0f), fill_within(b, 1.0f);
    Op op = {.width = 100, .extra = 50, .number = 1e-5f, .data = {c}};
    fill_within(c, 1.0f);
    rms_norm(&op, a, b, out, out + 200), feed(out, 300 * sizeof(float));
    for (int kind = SILU; kind <= SIGMOID; kind++) {
        op.kind = kind;
        if (kind != GELU_ERF) activate(&op, a, b, out), feed(out, 100 * sizeof(float)); /* erff is the C library's */
    }
    fill_within(b, 1.0f), op.data[1] = b;
    layer_norm(&op, a, b + 200, out, out + 200), feed(out, 300 * sizeof(float));
    op.number = 2.0f, softcap(&op, a, out), feed(out, 100 * sizeof(float));
    say("norms and activations");
    static float told[3] = {1.7f, 1.0f, 0.9f}, places[8];
    fill_within(a, 4.0f), op.width = 45, op.extra = 8, op.data[0] = c;
    mul_mat_f32(&op, a, out), feed(out, 45 * sizeof(float));
    soft_max(&op, a, out), feed(out, 45 * sizeof(float));
    top_k(&op, a, out, places), feed(out, 8 * sizeof(float)), feed(places, 8 * sizeof(float));
    sum_id(&op, a, b, out), feed(out, 45 * sizeof(float));
    op.data[0] = told, swiglu(&op, a, out), feed(out, 45 * sizeof(float));
    say("mixtures");
}

static void states_(void) {
    static float kept[COUNT], decays[48];
    fill_within(a, 1.0f), fill_within(b, 1.0f), fill_within(kept, 1.0f);
    for (int i = 0; i < 48; i += 16) f_store(decays + i, f_exp(f_load(b + i)));
    for (int token = 0; token < 5; token++) {
        const float *q = a + token * 300, *k = q + 48, *v = k + 48, *beta = token % 2 ? v + 64 : NULL;
        const float *from = token ? kept : NULL;
        update_columns(2, from, kept, 48, q, k, decays, v, beta, 0.3f, out);
        update_columns(1, kept + 32 * 48, kept + 32 * 48, 48, q, k, decays, v + 32, beta, 0.3f, out + 32);
        update_columns(1, kept + 48 * 48, kept + 48 * 48, 48, q, k, decays, v + 48, beta, 0.3f, out + 48);
        feed(out, 64 * sizeof(float)), feed(kept, 64 * 48 * sizeof(float));
    }
    say("states");
}

int main(void) {
    say(ISA);
    operations(), bytes(), products(8), products(4), attention(), rows_(), states_();
    return 0;
}
