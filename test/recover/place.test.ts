// Facts by the namespace that they hold in.
import t from 'tap';
import { ByPlace, here, Place } from '../../lib/recover/place.ts';
import { dialPlace } from '../../lib/policy/loop-guard.ts';
import { Namespace } from '../../lib/namespace/namespace.ts';

t.test('what is remembered by namespace is bounded, and the oldest goes first', (t) => {
  let made = 0;
  const facts = new ByPlace(() => ({ number: made++ }));
  const at = (number: number) => facts.get(new Place(-1, number));
  for (let number = 0; number < 1024; number++) at(number);
  t.equal(at(0).number, 0, 'still there');
  at(1024);
  t.equal(at(1).number, 1);
  t.equal(at(0).number, 1025, 'made again');
  t.end();
});

t.test('this namespace is one place, however it is named', (t) => {
  const current = Namespace.current();
  t.teardown(() => current.close());
  t.equal(dialPlace({ namespace: current }).number, here().number);
  t.equal(dialPlace({ namespace: current }).isElsewhere, false);
  t.equal(dialPlace({}).number, here().number);
  t.end();
});
