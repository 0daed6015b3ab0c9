// A collection of what comes and goes.
import { array, assert, boolean, nat, property, tuple } from 'fast-check';
import t from 'tap';
import { Crowd, OUTSIDE } from '../../lib/relay/crowd.ts';

t.test('holds what a Set would hold', async () => {
  const step = tuple(boolean(), nat(7));
  assert(
    property(array(step, { maxLength: 60 }), (steps) => {
      const members = Array.from({ length: 8 }, (_, number) => ({ number, place: OUTSIDE }));
      const crowd = new Crowd<(typeof members)[number]>();
      const model = new Set<(typeof members)[number]>();
      for (const [comes, number] of steps) {
        const member = members[number]!;
        if (!comes) {
          crowd.delete(member);
          model.delete(member);
        } else if (!model.has(member)) {
          crowd.add(member);
          model.add(member);
        }
        if (crowd.size !== model.size || crowd.all().some((one) => !model.has(one))) return false;
      }
      return true;
    }),
  );
});

t.test('whoever leaves while all are looked at was looked at', async (t) => {
  const crowd = new Crowd<{ place: number }>();
  for (let i = 0; i < 5; i++) crowd.add({ place: OUTSIDE });
  let seen = 0;
  for (const member of crowd.all()) {
    seen++;
    crowd.delete(member);
  }
  t.equal(seen, 5);
  t.equal(crowd.size, 0);
});
