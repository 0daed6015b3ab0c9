// Where an accepted connection was going, in those cases in which C++ may say so by itself.
#ifndef ORIGINAL_DST_SOCKET_CERTAIN_DESTINATION_H_
#define ORIGINAL_DST_SOCKET_CERTAIN_DESTINATION_H_

#include "socket/original_dst.h"

namespace original_dst {

// "Where was it going?" is decided in lib/recover/original-dst.ts. This says the same or nothing
// (test/recover/agreement.test.ts): it decides from these facts and the listener's port alone,
// which is enough for a redirection that conntrack remembers, and for a local port at which the
// listener cannot have been dialled. False in every other case, also where TypeScript would come to
// an answer by asking more: then it is to be asked.
bool certain_destination(const Facts& facts, uint16_t listener_port, Endpoint* destination);

// The same without the local address: whatever that is, the connection was going to where its own
// entry says, if that is neither a port of the listener's (which may be a plain connection to it)
// nor the peer (which is a reversed entry). Under TPROXY the two are the same.
bool certain_without_local(const Facts& facts, uint16_t listener_port, Endpoint* destination);

// The same for an accepted socket of which accept4(2) has told the peer (`facts->peer` and
// `facts->peer_status`), with as few system calls as the answer takes. Leaves in `facts` what it
// has found out; `facts->local` may be missing (family 0).
bool find_destination(int fd, uint16_t listener_port, Facts* facts, Endpoint* destination);

}  // namespace original_dst

#endif  // ORIGINAL_DST_SOCKET_CERTAIN_DESTINATION_H_
