# SPDX-License-Identifier: MIT OR Apache-2.0
# The debug kernel: the same source as the stock one, with KASAN, lockdep and kmemleak.

[ -n "${TAS_DEBUG_SH:-}" ] && return 0
TAS_DEBUG_SH=1
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/userspace.sh"
