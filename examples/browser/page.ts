// The page's own thread: draws the state, and hands all work to the worker.

import { render } from "lit-html";
import { Actions } from "./actions.ts";
import { initial, Store } from "./state.ts";
import { appView } from "./views/app.ts";

const place = document.querySelector<HTMLElement>("#app")!;
const store = new Store(initial, (state) => render(appView(state, actions), place));
const actions = new Actions(store);
store.set({});
void actions.start();
