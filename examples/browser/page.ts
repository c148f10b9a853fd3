// The page's own thread: draws the state, and hands all work to the worker.

import { render } from "lit-html";
import { Actions } from "./actions.ts";
import { initial, type State, Store } from "./state.ts";
import { appView } from "./views/app.ts";

const place = document.querySelector<HTMLElement>("#app")!;
const draw = (state: State): void => void render(appView(state, actions), place);
const store = new Store(initial, draw);
const actions = new Actions(store);
// The first time at once: laying it out is work enough for the first frame.
draw(initial);
void actions.start();
