// The arithmetic of a token bucket in one number: `step` of crates/yggdrasil/src/gcra.rs, name by
// name. A test asks both the same and compares what they answer and what they store.
#pragma once

#define U64_MAX 0xffffffffffffffffULL

enum outcome { ALLOWED, DENIED, NEVER };

struct step {
    u64 full_at;
    enum outcome outcome;
};

INLINE u64 saturating_sub(u64 a, u64 b) { return a > b ? a - b : 0; }

INLINE u64 saturating_add(u64 a, u64 b) { return a > U64_MAX - b ? U64_MAX : a + b; }

INLINE u64 saturating_mul(u64 a, u32 b) {
    // By halves: BPF has no product of 128 bits, which a compiler makes of a check with a division.
    u64 low = (a & 0xffffffff) * b;
    u64 high = (a >> 32) * b + (low >> 32);
    return high >> 32 ? U64_MAX : high << 32 | (low & 0xffffffff);
}

// Asks for `cost` tokens of a bucket that is full at `full_at`. Tokens come every `each`
// nanoseconds, `burst` of them are saved up. A limit of user space never multiplies beyond 64 bits,
// but half of it may be an older one, while it is being written.
INLINE struct step gcra_step(u64 full_at, u64 now, u64 each, u32 burst, u32 cost) {
    u64 room = saturating_mul(each, burst);
    u64 lacks = saturating_sub(full_at, now);
    if (cost > burst)
        return (struct step){full_at, NEVER};
    u64 after = saturating_add(lacks, saturating_mul(each, cost));
    if (after > room && cost > 0)
        return (struct step){full_at, DENIED};
    if (cost == 0)
        return (struct step){full_at, ALLOWED};
    return (struct step){saturating_add(now, after), ALLOWED};
}
