// What the program needs of the kernel: its types, helpers and packet headers (uapi/linux/bpf.h,
// if_ether.h, ip.h, ipv6.h). Said here, so that building asks for no kernel headers.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// A map says what it is by the types of pointers that nobody follows (BTF).
#define MAP_UINT(name, value) int (*name)[value]
#define MAP_TYPE(name, type) type *name

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_LRU_HASH = 9 };
enum { UPDATE_NOEXIST = 1 };
enum { XDP_DROP = 1, XDP_PASS = 2 };

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value,
                                u64 flags) = (void *)2;
static u64 (*const ktime_get_ns)(void) = (void *)5;

struct xdp_md {
    u32 data;
    u32 data_end;
    u32 data_meta;
    u32 ingress_ifindex;
    u32 rx_queue_index;
    u32 egress_ifindex;
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(value) ((u16)__builtin_bswap16(value))
#define BE32(value) ((u32)__builtin_bswap32(value))
#else
#define BE16(value) ((u16)(value))
#define BE32(value) ((u32)(value))
#endif

enum { ETH_IPV4 = 0x0800, ETH_IPV6 = 0x86dd, ETH_VLAN = 0x8100, ETH_QINQ = 0x88a8 };
enum {
    IP_HOP_BY_HOP = 0,
    IP_TCP = 6,
    IP_UDP = 17,
    IP_ROUTING = 43,
    IP_FRAGMENT = 44,
    IP_DESTINATION = 60,
};

struct eth {
    u8 to[6];
    u8 from[6];
    u16 type;
};

struct vlan {
    u16 tag;
    u16 type;
};

struct ipv4 {
    u8 version_words;
    u8 service;
    u16 bytes;
    u16 id;
    u16 fragment;
    u8 ttl;
    u8 protocol;
    u16 checksum;
    u32 from;
    u32 to;
};

struct ipv6 {
    u32 version_class_flow;
    u16 bytes;
    u8 protocol;
    u8 hops;
    u32 from[4];
    u32 to[4];
};

// Of the headers behind that of IPv6. A fragment's is always 8 bytes long and has an offset.
struct extension {
    u8 protocol;
    u8 words;
    u16 offset;
    u32 rest;
};

// What TCP and UDP begin with.
struct ports {
    u16 from;
    u16 to;
};
