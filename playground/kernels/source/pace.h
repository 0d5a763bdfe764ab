/* Whether the threads take a step together, or the caller takes it alone.
 *
 * Where other programs want the same cores, one of the threads is often not running, and the others wait for it at every
 * meeting: two threads in lock step may then reach a fraction of what one alone does. A single token's step waits for
 * nobody, but two halves of a core may do less than a whole one, and two threads use a quota up in half of the time and are
 * then stopped together: there a step "waits" while its caller has no core. No bit depends on how many work, so each step is
 * taken in whichever way was lately faster. The other way is tried when threads were seen to wait long, or, while the
 * caller works alone, now and then; what trials may cost is bounded. Single steps say little beside busy neighbours, who
 * take the core for some milliseconds or don't, and under quotas: only means over many are compared.
 */
#ifndef PLAYGROUND_PACE_H
#define PLAYGROUND_PACE_H

#define PACES 8          /* kinds of steps: one token, two, up to four, … up to 128 */
#define TOGETHER 0
#define ALONE 1
#define TRIAL 24         /* steps by which the other way is judged … */
#define ENOUGH_NS 120e6  /* … or as many as take so long */
#define LONGER 4         /* by so many times as much of steps of one token: quotas are of a tenth of a second */
#define LASTING 48       /* steps of one token in a row behind which waits were long, before a trial */
#define STALLED 16       /* times the usual: no step of one token counts for more */
#define COST 0.04        /* share of the time that trials may take */
#define USUAL 0.06       /* weight of the newest step in what a way takes */
#define LATELY 0.3       /* the same in what was waited */
#define LONG_WAITS 0.3   /* share of a step spent waiting, smoothed, from which on working alone is worth a trial */
#define BETTER 0.95      /* the other way must need less than this share of the time: no change for nothing */
#define EASED 0.75       /* steps alone that need less than this share: the neighbours may have gone … */
#define IN_A_ROW 4       /* … when so many come in a row */
#define GONE 0.05        /* share of a step alone without a core, smoothed, below which they have gone for certain */

typedef struct {
    double took[2]; /* nanoseconds of a step each way, smoothed; 0: not known */
    double waits;   /* share of a step together that a thread spent waiting for another beyond the usual, smoothed */
    double idle, all; /* of steps of one token: nanoseconds in which the caller had no core, and all, of the last ones */
    double sum;     /* nanoseconds of the trial that is under way */
    int way, trial, pause; /* the usual way; steps left of a trial; steps until the next */
    int eased;             /* quick steps in a row */
    int waiting;           /* steps in a row behind which threads were seen to wait long */
    int longer;            /* whether it is of steps of one token, whose trials are so */
    int crowded;           /* alone the caller was often without a core: quick steps say nothing, until that is over */
} Pace;

/* The way of the next step. */
static int pace_way(const Pace *pace) { return pace->trial ? !pace->way : pace->way; }

/* How many steps a trial has at most. */
static int pace_trial(const Pace *pace) { return pace->longer ? LONGER * TRIAL : TRIAL; }

/* A trial of `steps` steps is over. */
static void pace_judge(Pace *pace, int steps) {
    int other = !pace->way;
    pace->trial = 0;
    pace->took[other] = pace->sum / steps;
    double lost = pace->sum - steps * pace->took[pace->way];
    if (pace->took[other] < BETTER * pace->took[pace->way])
        pace->way = other, pace->waits = pace->idle = pace->all = 0, pace->crowded = 0;
    double pause = lost > 0 ? lost / (COST * pace->took[pace->way]) : 0;
    /* Long steps of one token are not many: soon enough the pause is over by the clock. */
    double least = pace->longer ? 4 * LONGER * ENOUGH_NS / pace->took[pace->way] + 1 : 4 * TRIAL;
    if (least > 4 * TRIAL) least = 4 * TRIAL;
    pace->pause = (int)(pause < least ? least : pause > 2000 ? 2000 : pause);
}

/* A step was taken the way `pace_way` said: in `ns`, of which threads waited `waited` beyond the usual. */
static void pace_took(Pace *pace, double ns, double waited) {
    if (pace->trial) {
        pace->sum += ns, pace->trial--;
        int all = pace_trial(pace);
        if (pace->trial == 0 || pace->sum >= ENOUGH_NS / TRIAL * all) pace_judge(pace, all - pace->trial);
        return;
    }
    double *took = &pace->took[pace->way];
    if (pace->longer) {
        /* A process that was stopped, or its first step, whose memory comes from disk, says nothing of neighbours. */
        if (*took == 0) ns -= waited, waited = 0;
        else if (ns > STALLED * *took) waited *= STALLED * *took / ns, ns = STALLED * *took;
        pace->idle += waited - USUAL * pace->idle, pace->all += ns - USUAL * pace->all;
        double share = pace->all > 0 ? pace->idle / pace->all : 0;
        if (pace->way == TOGETHER) pace->waits = share;
        else if (share > LONG_WAITS) pace->crowded = 1;
        else if (share < GONE && pace->crowded) pace->crowded = 0, pace->pause = 0;
    } else if (pace->way == TOGETHER) {
        pace->waits += LATELY * ((ns > 0 ? waited / ns : 0) - pace->waits);
    }
    pace->eased = pace->way == ALONE && !pace->crowded && ns < EASED * *took ? pace->eased + 1 : 0;
    if (pace->eased < IN_A_ROW) *took = *took > 0 ? *took + USUAL * (ns - *took) : ns;
    else pace->pause = 0, pace->eased = 0, *took = ns;
    if (pace->pause > 0) pace->pause--;
    pace->waiting = pace->waits > LONG_WAITS ? pace->waiting + 1 : 0;
    if (pace->pause <= 0 && (pace->way == ALONE || pace->waiting > (pace->longer ? LASTING : 0)))
        pace->trial = pace_trial(pace), pace->sum = 0;
}

#endif
