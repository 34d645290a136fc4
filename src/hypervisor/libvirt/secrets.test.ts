import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutSecrets, withSecretsOf } from './secrets.ts';

const domain = (devices: string) => `<domain><devices>${devices}</devices></domain>`;
const VNC = "<graphics type='vnc' port='-1'/>";
const SPICE = "<graphics type='spice' autoport='yes'/>";
const VNC_FULL = "<graphics type='vnc' port='-1' passwd='sesame' passwdValidTo='2030-01-01T00:00:00'/>";
const WEB =
  "<disk type='network' device='cdrom'><source protocol='https' name='iso'>COOKIES</source><target dev='sda'/></disk>";
const COOKIES = "<cookies><cookie name='session'>abc</cookie></cookies>";

void test('a definition without secrets says where there is one, and nobody gets in by it', () => {
  const plain = withoutSecrets(domain(SPICE + VNC), domain(SPICE + VNC_FULL));
  assert.ok(!plain.includes('sesame'));
  assert.match(plain, /type="vnc"[^>]*passwd=""/);
  assert.ok(!/type="spice"[^>]*passwd/.test(plain));
  const open = domain(SPICE + VNC);
  assert.equal(withoutSecrets(open, open), open);
});

void test('a VM that is defined again keeps its secrets, whatever the definition says', () => {
  for (const vnc of [VNC, VNC.replace('/>', " passwd=''/>")]) {
    const kept = withSecretsOf(domain(vnc + SPICE), domain(SPICE + VNC_FULL));
    assert.match(kept, /passwd="sesame"/);
    assert.match(kept, /passwdValidTo="2030-01-01T00:00:00"/);
    assert.ok(!/type="spice"[^>]*passwd/.test(kept));
  }
});

void test('one that brings its own has them, and one that finds none stays closed', () => {
  assert.match(withSecretsOf(domain(VNC.replace('/>', " passwd='new'/>")), domain(VNC_FULL)), /passwd="new"/);
  assert.match(withSecretsOf(domain(VNC.replace('/>', " passwd=''/>")), domain(VNC)), /passwd=""/);
});

void test('what a medium on the web is fetched with stays with that medium', () => {
  const [bare, full] = ['', COOKIES].map((cookies) => domain(WEB.replace('COOKIES', cookies)));
  assert.match(withSecretsOf(bare!, full!), /<cookie name="session">abc<\/cookie>/);
  assert.ok(!withSecretsOf(bare!.replace("'iso'", "'other'"), full!).includes('abc'));
});
