from dataclasses import replace

import numpy as np
from sim_stages import CAMERA, LOOK, cube, stage_with

from robointervlm.episodes.sim.camera import look_at
from robointervlm.episodes.sim.render import render, table_colour

ABOVE = look_at(np.array([0.5, -0.01, 1.5]), np.array([0.5, 0.0, 0.0]), focal=100.0, size=(100, 100))


def test_segmentation_is_exact_to_the_pixel():
    # Painting a thing in another colour changes the pixels that are said to show it, and no others.
    red, blue = (cube("red", (0.5, 0.1, 0.2), rgb=rgb) for rgb in ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8)))
    other = cube("green", (0.9, 0.05, 0.2), half=0.05)
    stage = stage_with(red, other)
    picture, repainted = render(stage), render(stage_with(blue, other))
    changed = (picture.rgb != repainted.rgb).any(axis=2)
    said = np.isin(picture.geom, stage.geoms_of("red cube"))
    assert changed.sum() > 200
    assert np.array_equal(changed, said)


def test_a_picture_is_rows_by_columns_of_bytes():
    picture = render(stage_with(cube("red", (0.5, 0.0, 0.3))))
    assert (picture.rgb.shape, picture.rgb.dtype) == ((100, 200, 3), np.uint8)
    assert picture.geom.shape == (100, 200)


def test_a_thing_throws_a_shadow_away_from_the_light():
    # Light at x = 1, 2 m up; the cube's top edge at x = 0.4, 0.2 m up, shades the table to x = 0.4 - 0.6 * 0.2 / 1.8.
    stage = stage_with(cube("red", (0.5, 0.0, 0.1)), camera=ABOVE)
    shaded, free = brightness(stage, [0.36, 0.0, 0.0]), brightness(stage, [0.31, 0.0, 0.0])
    assert shaded < 0.75 * free


def test_a_surface_facing_the_light_is_brighter_than_one_facing_away():
    stage = stage_with(cube("red", (0.5, 0.0, 0.3)))
    picture = render(stage).rgb.astype(float)
    from_behind = stage_with(cube("red", (0.5, 0.0, 0.3)), look=replace(LOOK, light=(-1.0, 0.0, 2.0)))
    assert picture[50, 100].sum() > 1.2 * render(from_behind).rgb[50, 100].astype(float).sum()


def test_a_checker_board_alternates_between_two_colours():
    look = replace(LOOK, pattern="checker")
    points = np.array([[0.05, 0.05, 0.0], [0.15, 0.05, 0.0], [0.15, 0.15, 0.0], [0.25, 0.15, 0.0]])
    colours = table_colour(look, points)
    assert colours.tolist() == [[0.6, 0.5, 0.4], [0.5, 0.4, 0.3], [0.6, 0.5, 0.4], [0.5, 0.4, 0.3]]


def test_a_ray_that_meets_nothing_shows_the_wall():
    # Level with the things, the camera's upper pixels look over the floor's horizon.
    picture = render(stage_with(cube("red", (0.5, 0.0, 0.3)), camera=CAMERA))
    assert picture.geom[0, 5] == -1
    assert picture.rgb[0, 5].min() > 100


def brightness(stage, point):
    column, row = np.floor(stage.scene.camera.project(np.array([point]))[0]).astype(int)
    return render(stage).rgb[row, column].astype(float).sum()
