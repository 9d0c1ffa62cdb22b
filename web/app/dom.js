// Small help with the document. Everything here sets text as text: there is no way through this file to insert HTML,
// and no other file of the page makes elements by other means.

/**
 * A copy of a template's only element.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function fromTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  const element = template.content.firstElementChild?.cloneNode(true);
  if (!(element instanceof HTMLElement)) throw new Error(`No template "${id}".`);
  return element;
}

/**
 * The element of a test id below another.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} id
 * @returns {T}
 */
export function byTestId(root, id) {
  return find(root, `[data-testid="${id}"]`);
}

/**
 * The element of a part's name below another.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} name
 * @returns {T}
 */
export function byPart(root, name) {
  return find(root, `[data-part="${name}"]`);
}

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {T}
 */
export function find(root, selector) {
  const element = root.querySelector(selector);
  if (element === null) throw new Error(`No element ${selector}.`);
  return /** @type {T} */ (element);
}

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean | ((event: Event) => void)>} [attributes] A function listens to the event of
 *   its name; true is an attribute without a value, false none.
 * @param {...(Node | string)} children Strings become text.
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

/**
 * Makes the children of a list be `wanted`, touching only what differs, so that focus, selection and what a screen
 * reader has said stay as they are.
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
}

/**
 * Sets text only when it differs: setting it again would be announced again.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Shows a template's dialog; it leaves the document when closed.
 * @param {string} template
 * @returns {HTMLDialogElement}
 */
export function openDialog(template) {
  const dialog = /** @type {HTMLDialogElement} */ (fromTemplate(template));
  document.body.append(dialog);
  dialog.querySelector('[data-action="close"]')?.addEventListener('click', () => dialog.close());
  // A press on the backdrop is one on the dialog's own box.
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  dialog.showModal();
  return dialog;
}

/**
 * @param {string} question
 * @param {string} yes What the button that goes ahead says.
 * @returns {Promise<boolean>}
 */
export function confirmed(question, yes) {
  const dialog = openDialog('confirm-dialog');
  byPart(dialog, 'question').textContent = question;
  byTestId(dialog, 'confirm-yes').textContent = yes;
  byTestId(dialog, 'confirm-no').focus();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'));
  });
}
