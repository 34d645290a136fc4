/**
 * Secrets of a definition stay in the libvirt of the host that they were given to: what is exported is what libvirt tells without them,
 * and what is defined over a VM that is there takes its secrets over. A console whose password isn't known here is closed, never open.
 */
import type { XmlDocument, XmlElement } from 'libxml2-wasm';
import { attribute, element, elements, withXml } from './domain-xml.ts';

/** What of a console is only told to those who ask for secrets. */
const OF_A_CONSOLE = ['passwd', 'passwdValidTo', 'connected'] as const;

/**
 * The definition without secrets, saying where there is one: libvirt lets nobody in by a password that is empty.
 * @param plain as libvirt gives it to anybody; `full` the same with secrets.
 */
export function withoutSecrets(plain: string, full: string): string {
  const closed = withXml(full, (document) => consoles(document).map((one) => attribute(one, 'passwd') !== undefined));
  if (!closed.includes(true)) return plain;
  return withXml(plain, (document) => {
    for (const [i, one] of consoles(document).entries()) if (closed[i] === true) one.setAttr('passwd', '');
    return document.toString({ noDeclaration: true });
  });
}

/** The definition with the secrets of one that this host has, of which it was made, or which it takes the place of. */
export function withSecretsOf(definition: string, present: string): string {
  return withXml(present, (own) =>
    withXml(definition, (document) => {
      const before = consoles(own);
      for (const one of consoles(document)) {
        const at = before.findIndex((other) => attribute(other, 'type') === attribute(one, 'type'));
        const [same] = at === -1 ? [] : before.splice(at, 1);
        if ((attribute(one, 'passwd') ?? '') === '' && (attribute(same, 'passwd') ?? '') !== '') give(same!, one);
      }
      for (const disk of elements(document, '/domain/devices/disk')) giveCookies(own, disk);
      return document.toString({ noDeclaration: true });
    }),
  );
}

function consoles(document: XmlDocument): XmlElement[] {
  return elements(document, '/domain/devices/graphics');
}

function give(from: XmlElement, to: XmlElement): void {
  for (const name of OF_A_CONSOLE) {
    const value = attribute(from, name);
    if (value !== undefined) to.setAttr(name, value);
  }
}

/** What a medium on the web is fetched with. */
function giveCookies(own: XmlDocument, disk: XmlElement): void {
  const source = element(disk, 'source[@protocol]');
  const target = attribute(element(disk, 'target'), 'dev');
  const same = elements(own, '/domain/devices/disk').find((one) => attribute(element(one, 'target'), 'dev') === target);
  const from = same === undefined ? undefined : element(same, 'source[@protocol]');
  if (source === undefined || from === undefined || element(source, 'cookies') !== undefined) return;
  if (attribute(source, 'name') !== attribute(from, 'name')) return;
  const cookies = elements(from, 'cookies/cookie');
  if (cookies.length === 0) return;
  const into = source.addElement('cookies');
  for (const cookie of cookies) {
    const copy = into.addElement('cookie');
    copy.setAttr('name', attribute(cookie, 'name') ?? '');
    copy.addText(cookie.content);
  }
}
