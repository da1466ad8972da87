// Limits packets by where they come from, before the network stack takes any notice of them.
//
// A source has a token bucket, and each packet to one of our ports costs a token; without one it is
// dropped. All other packets pass. Every packet is counted once, on the CPU that it came to.
#include "bpf.h"
#include "gcra.h"

char terms[] SEC("license") = "MIT";

// The numbers below are also in src/kernel.rs.
enum { PORTS_MAX = 16, EXTENSIONS_MAX = 6, TRIES = 8 };
enum counter { PASSED, LIMITED, BANNED, NOT_OURS, CONTENDED, COUNTERS };

struct policy {
    u64 emission_ns;
    u64 burst;
    // 0: only those that are banned are dropped.
    u64 limits;
    // What time it is, so that tests can say; 0: what the kernel says.
    u64 fixed_now;
    u64 ports_len;
    // Four in each, the first one lowest.
    u64 ports[PORTS_MAX / 4];
};

// Of IPv6; one of IPv4 is written as ::ffff:a.b.c.d.
struct address {
    u32 words[4];
};

struct {
    MAP_UINT(type, MAP_ARRAY);
    MAP_UINT(max_entries, 1);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, struct policy);
} policies SEC(".maps");

// When the bucket of a source is full. The one that was used least recently makes room, so a flood
// from more sources than there is room for gives them full buckets again.
struct {
    MAP_UINT(type, MAP_LRU_HASH);
    MAP_UINT(max_entries, 65536);
    MAP_TYPE(key, struct address);
    MAP_TYPE(value, u64);
} sources SEC(".maps");

struct {
    MAP_UINT(type, MAP_HASH);
    MAP_UINT(max_entries, 65536);
    MAP_TYPE(key, struct address);
    MAP_TYPE(value, u8);
} bans SEC(".maps");

struct {
    MAP_UINT(type, MAP_PERCPU_ARRAY);
    MAP_UINT(max_entries, COUNTERS);
    MAP_TYPE(key, u32);
    MAP_TYPE(value, u64);
} counters SEC(".maps");

INLINE int count(u32 counter, int verdict) {
    u64 *value = map_lookup(&counters, &counter);
    if (value)
        *value += 1;
    return verdict;
}

// Whether TCP or UDP at `at` goes to one of our ports.
INLINE int to_our_port(const void *at, const void *end, u8 protocol, const struct policy *policy) {
    const struct ports *ports = at;
    if ((protocol != IP_TCP && protocol != IP_UDP) || (const void *)(ports + 1) > end)
        return 0;
    u16 to = BE16(ports->to);
    for (u32 i = 0; i < PORTS_MAX; i++) {
        if (i < policy->ports_len && (u16)(policy->ports[i / 4] >> i % 4 * 16) == to)
            return 1;
    }
    return 0;
}

// Only the first fragment of a packet has ports. The others pass: without the first one the packet
// is never put together.
INLINE int is_ours_v4(const void *at, const void *end, const struct policy *policy,
                      struct address *from) {
    const struct ipv4 *ip = at;
    if ((const void *)(ip + 1) > end || ip->version_words >> 4 != 4)
        return 0;
    u32 bytes = (ip->version_words & 15) * 4;
    if (bytes < sizeof(*ip) || ip->fragment & BE16(0x1fff))
        return 0;
    from->words[2] = BE32(0xffff);
    from->words[3] = ip->from;
    return to_our_port(at + bytes, end, ip->protocol, policy);
}

INLINE int is_ours_v6(const void *at, const void *end, const struct policy *policy,
                      struct address *from) {
    const struct ipv6 *ip = at;
    if ((const void *)(ip + 1) > end)
        return 0;
    if ((ip->version_class_flow & BE32(0xf0000000)) != BE32(0x60000000))
        return 0;
    __builtin_memcpy(from->words, ip->from, sizeof(from->words));
    u8 protocol = ip->protocol;
    at += sizeof(*ip);
#pragma unroll
    for (int i = 0; i < EXTENSIONS_MAX; i++) {
        const struct extension *extension = at;
        if (protocol != IP_HOP_BY_HOP && protocol != IP_ROUTING && protocol != IP_FRAGMENT &&
            protocol != IP_DESTINATION)
            break;
        if ((const void *)(extension + 1) > end)
            return 0;
        u32 words = extension->words;
        if (protocol == IP_FRAGMENT) {
            if (extension->offset & BE16(0xfff8))
                return 0;
            words = 0;
        }
        protocol = extension->protocol;
        at += 8 + words * 8;
    }
    return to_our_port(at, end, protocol, policy);
}

INLINE int is_ours(const struct xdp_md *ctx, const struct policy *policy, struct address *from) {
    const void *at = (const void *)(u64)ctx->data, *end = (const void *)(u64)ctx->data_end;
    const struct eth *eth = at;
    if ((const void *)(eth + 1) > end)
        return 0;
    at = eth + 1;
    u16 type = eth->type;
    if (type == BE16(ETH_VLAN) || type == BE16(ETH_QINQ)) {
        const struct vlan *vlan = at;
        if ((const void *)(vlan + 1) > end)
            return 0;
        at = vlan + 1;
        type = vlan->type;
    }
    if (type == BE16(ETH_IPV4))
        return is_ours_v4(at, end, policy, from);
    if (type == BE16(ETH_IPV6))
        return is_ours_v6(at, end, policy, from);
    return 0;
}

// Takes a token of the source. Other CPUs may do so at the same time; whoever is too late looks
// again. A place that another source has got meanwhile changes only where that one's bucket is full
// at the same nanosecond.
INLINE int take(const struct policy *policy, const struct address *from, u64 now) {
    for (int i = 0; i < TRIES; i++) {
        u64 *bucket = map_lookup(&sources, from);
        u64 full_at = bucket ? *(volatile u64 *)bucket : 0;
        struct step step = gcra_step(full_at, now, policy->emission_ns, policy->burst, 1);
        if (step.outcome != ALLOWED)
            return count(LIMITED, XDP_DROP);
        if (bucket) {
            if (__sync_val_compare_and_swap(bucket, full_at, step.full_at) == full_at)
                return count(PASSED, XDP_PASS);
        } else if (map_update(&sources, from, &step.full_at, UPDATE_NOEXIST) == 0) {
            return count(PASSED, XDP_PASS);
        }
    }
    return count(CONTENDED, XDP_PASS);
}

SEC("xdp.frags")
int limiter(struct xdp_md *ctx) {
    u32 zero = 0;
    const struct policy *policy = map_lookup(&policies, &zero);
    if (!policy)
        return XDP_PASS;
    struct address from = {};
    if (!is_ours(ctx, policy, &from))
        return count(NOT_OURS, XDP_PASS);
    if (map_lookup(&bans, &from))
        return count(BANNED, XDP_DROP);
    if (!policy->limits)
        return count(PASSED, XDP_PASS);
    return take(policy, &from, policy->fixed_now ? policy->fixed_now : ktime_get_ns());
}
