// An egress filter: what leaves this host is decided by the names in a file, read again on SIGHUP. One line of JSON for
// each connection, and for what else there is to say.
//
//   node egress-filter.js names.txt --port 15001 --mark 7
//
// Rules as for redirect-proxy; they must leave connections with that mark alone.
// The file has one rule of a NamePolicy a line; `!` in front denies, `#` begins a comment.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  createRelayServer,
  NamePolicy,
  type Endpoint,
  type FirstBytes,
  type OriginalDst,
} from 'original-dst';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string', default: '15001' }, mark: { type: 'string', default: '0' } },
});
const [file = 'names.txt'] = positionals;

function readPolicy(): NamePolicy {
  const lines = readFileSync(file, 'utf8').split('\n');
  const rules = lines.map((line) => line.replace(/#.*/, '').trim()).filter((line) => line !== '');
  return new NamePolicy({
    allow: rules.filter((rule) => !rule.startsWith('!')),
    deny: rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1)),
  });
}

let policy = readPolicy();
const say = (text: string): void => console.log(JSON.stringify({ say: text }));

function log(client: Endpoint, destination: OriginalDst, first: FirstBytes | undefined, what: object): void {
  const to = destination.kind === 'unknown' ? undefined : `${destination.address} ${destination.port}`;
  const from = `${client.address} ${client.port}`;
  const { name, protocol } = first ?? {};
  console.log(JSON.stringify({ time: new Date().toISOString(), from, to, name, protocol, ...what }));
}

const server = createRelayServer({
  mark: Number(values.mark),
  inspect: { ports: [80, 443, 8080, 8443] },
  decide: (destination, client, first) => {
    const asked = destination.kind === 'unknown' ? {} : destination;
    const { allowed, because } = policy.explain({ protocol: 'tcp', ...asked, ...first });
    if (allowed) {
      // Where this host finds the name: what the client says of the address proves nothing.
      const name = first?.name;
      return name === undefined ? 'relay' : { action: 'relay', to: { name } };
    }
    log(client, destination, first, { allowed, because });
    return 'reset';
  },
});
server.on('relay', (relay, destination, client, first) => {
  relay.once('close', (outcome) => {
    const bytes = { toUpstream: relay.bytesToUpstream, toClient: relay.bytesToClient };
    const error = outcome.reason === 'error' ? { error: outcome.error.code } : {};
    log(client, destination, first, { allowed: true, reason: outcome.reason, ...error, ...bytes });
  });
});
server.on('error', (error) => say(error.message));
server.listen(Number(values.port));
server.on('listening', () => say(`listening on ${server.address()!.port}`));

process.on('SIGHUP', () => {
  try {
    policy = readPolicy();
    say('read the rules again');
  } catch (error) {
    say(`the rules stay as they are: ${(error as Error).message}`);
  }
});
