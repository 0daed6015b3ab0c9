/** The name of a runtime that imitates Node's net module with sockets of its own making; undefined on Node. */
export function foreignRuntimeName(): string | undefined {
  return ['bun', 'deno'].find((name) => process.versions[name] !== undefined);
}
