// A DNS server for all that this host (or the hosts behind it) asks of any resolver: answers names of its own, and
// forwards the rest to the resolver that the client meant. The client sees that resolver answer.
import { parseArgs } from 'node:util';
import { createDnsForwarder } from 'original-dst';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: '15053' },
    transparent: { type: 'boolean', default: false },
    mark: { type: 'string', default: '0' },
    zones: { type: 'string', default: '0,1,2' },
  },
});

/** Names of its own: `name=address`, as often as wanted. */
const own = new Map<string, string[]>();
for (const positional of positionals) {
  const [name = '', address = ''] = positional.toLowerCase().split('=');
  own.set(name, [...(own.get(name) ?? []), address]);
}

const agent = createDnsForwarder({
  upstream: 'original',
  transparent: values.transparent,
  mark: Number(values.mark),
  conntrackZones: values.zones.split(',').map(Number),
  policy: ({ name }) => {
    const addresses = own.get(name.toLowerCase());
    return addresses ? { addresses } : 'forward';
  },
});

agent.on('query', ({ question, client, destination, outcome }) => {
  const resolver =
    destination.kind === 'unknown' ? 'nobody knows whom' : `${destination.address} ${destination.port}`;
  // A name may hold any byte, and terminals obey some.
  const what = `${question.name.replace(/[^\w.-]/g, '?')} ${question.type}`;
  console.log(
    `${client.address} ${client.port} asked ${resolver} (${destination.kind}) for ${what}: ${outcome}`,
  );
});
agent.on('error', (error) => console.error(error.message));
agent.on('listening', () => console.log(`listening on ${agent.address()!.port}, UDP and TCP`));
agent.listen({ port: Number(values.port) });
