// The page in a browser, as two people use it: register, talk, see who types, lose the network, come back with nothing
// missing and nothing twice, and all of it on a phone's width. What a tab showed in the end is printed as `shown: [...]`.
//
// From the environment: URL, CHROMIUM (its path), ADA and BOB (usernames), PASSWORD, SHOTS (a folder for pictures).

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const { URL: url, CHROMIUM, ADA, BOB, PASSWORD, SHOTS } = process.env;
const LIMIT_MS = 30_000;
const PHONE = { width: 390, height: 844 };

mkdirSync(SHOTS, { recursive: true });
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});

/** A tab of somebody's own, with everything that went wrong in it. */
async function tab(name, viewport) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(`${name}: ${error}`));
  page.on("console", (message) => {
    if (message.text().includes("Content Security Policy")) faults.push(`${name}: ${message.text()}`);
  });
  const at = (id) => page.getByTestId(id);
  return { name, context, page, faults, at };
}

/** The field hides what is typed, tells password managers what it is for, and takes what is pasted. */
async function hides(field, purpose) {
  assert.equal(await field.getAttribute("type"), "password");
  assert.equal(await field.getAttribute("autocomplete"), purpose);
  const taken = await field.evaluate((input) =>
    input.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: new DataTransfer() })));
  assert.ok(taken, "pasting is prevented");
}

async function shot(who, what) {
  await who.page.screenshot({ path: `${SHOTS}/${who.name}-${what}.png` });
}

async function register(who, username) {
  await who.page.goto(url);
  if (!(await who.at("register-form").isVisible())) await who.at("switch-to-register").click();
  const form = who.at("register-form");
  await hides(form.getByTestId("password"), "new-password");
  await form.getByTestId("username").fill(username);
  await form.getByTestId("email").fill(`${username}@example.com`);
  await form.getByTestId("password").fill(PASSWORD);
  await form.getByTestId("submit-register").click();
  await who.at("room-list").waitFor({ state: "attached" });
  await online(who);
}

const state = (who, name) => who.page.locator(`[data-testid="connection"][data-state="${name}"]`).waitFor({ state: "attached" });
const online = (who) => state(who, "online");
const message = (who, text) => who.at("message").filter({ hasText: text });

/** Waits until a message is shown as sent. */
async function shown(who, text) {
  await who.page.locator('[data-testid="message"][data-state="sent"]').filter({ hasText: text }).first().waitFor();
}

async function send(who, text) {
  await who.at("composer").fill(text);
  await who.at("send").click();
}

/** The texts that were sent, of a list of messages that may have more around them. */
async function texts(who, sent) {
  const all = await who.at("message").allInnerTexts();
  return all.map((text) => sent.find((one) => text.includes(one)) ?? text);
}

/** Nothing sticks out to the side. */
async function fits(who, what) {
  const width = await who.page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= who.page.viewportSize().width, `${what}: the page is ${width} px wide`);
}

const ada = await tab("ada", { width: 1100, height: 800 });
const bob = await tab("bob", PHONE);
await fits(bob, "before");
await register(ada, ADA);
await register(bob, BOB);
await shot(bob, "registered");
await fits(bob, "the list of rooms");

// Ada makes a public room, and Bob finds it.
const room = `Engines ${Date.now()}`;
await ada.at("new-room-name").fill(room);
if ((await ada.at("new-room-type").count()) > 0) await ada.at("new-room-type").selectOption("public");
await ada.at("create-room").click();
await ada.at("room-list").getByText(room).waitFor();
await ada.at("composer").waitFor();
await bob.page.reload();
await online(bob);
await bob.at("public-room-list").getByText(room).first().click();
await bob.at("composer").waitFor();
await fits(bob, "the room");

const sent = [];
async function both(who, other, text) {
  sent.push(text);
  await send(who, text);
  await shown(who, text);
  await shown(other, text);
}
await both(ada, bob, "hello from ada");
await both(bob, ada, "hello from bob");
const hostile = '<img src=x onerror="document.title=\'taken\'"><b>bold</b>';
await both(bob, ada, hostile);
assert.notEqual(await ada.page.title(), "taken", "content was taken for HTML");
assert.equal(await ada.at("message-list").locator("img").count(), 0);

// Who types is seen by the other.
await ada.at("composer").pressSequentially("typ", { delay: 30 });
await bob.at("typing").filter({ hasText: ADA }).waitFor();
await ada.at("composer").fill("");
await shot(bob, "talking");

// Bob loses the network, goes on writing, and comes back.
await bob.context.setOffline(true);
await state(bob, "offline");
for (const text of ["while away 1", "while away 2", "while away 3"]) {
  sent.push(text);
  await send(ada, text);
  await shown(ada, text);
}
await send(bob, "written offline");
await message(bob, "written offline").first().waitFor();
await shot(bob, "offline");
sent.push("written offline");
await bob.context.setOffline(false);
await online(bob);
for (const text of sent) await shown(bob, text);
await shown(ada, "written offline");
await both(ada, bob, "all together again");
await both(bob, ada, "the last one");
await shot(bob, "back");
await fits(bob, "at the end");

for (const who of [ada, bob]) {
  assert.deepEqual(await texts(who, sent), sent, `${who.name}'s tab`);
  const seqs = await who.at("message").evaluateAll((list) => list.map((one) => Number(one.dataset.seq)));
  for (let i = 1; i < seqs.length; i++) assert.ok(seqs[i] > seqs[i - 1], `${who.name}: ${seqs}`);
}

// A reload shows the same room again, without logging in.
await bob.page.reload();
await online(bob);
await bob.at("composer").waitFor();
for (const text of sent) await shown(bob, text);
assert.deepEqual(await texts(bob, sent), sent, "after a reload");

// Logged out, the page asks who it is, and a wrong password is told.
await ada.at("logout").click();
await ada.at("login-form").waitFor();
// Nothing stays but that this device is no stranger.
const kept = await ada.page.evaluate(() => [...Object.keys(localStorage), ...Object.keys(sessionStorage)]);
assert.deepEqual(kept, ["switchboard.device"]);
assert.equal(await ada.page.getByText(room).count(), 0, "a room is still on the page");
await hides(ada.at("login-form").getByTestId("password"), "current-password");
await ada.at("login-form").getByTestId("username").fill(ADA);
await ada.at("login-form").getByTestId("password").fill("not the password");
await ada.at("login-form").getByTestId("submit-login").click();
await ada.at("login-form").getByTestId("error").first().waitFor();
await ada.at("login-form").getByTestId("password").fill(PASSWORD);
await ada.at("login-form").getByTestId("submit-login").click();
await online(ada);

assert.deepEqual([...ada.faults, ...bob.faults], []);
await browser.close();
console.log(`shown: ${JSON.stringify(sent)}`);
console.log(`${sent.length} messages in two tabs, nothing missing and nothing twice; pictures in ${SHOTS}`);
