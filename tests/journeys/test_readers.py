"""Readers: the real files where they are here, and small files of exactly the published layout where they are not."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headrace.errors import UserError
from headrace.journeys.prepare import prepare
from headrace.journeys.readers import READERS, kuairand
from headrace.journeys.schema import Gain, LogSchema

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,"
    "duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
USERS = ",".join(["user_id", *kuairand._CATEGORICAL_USER[:4], *kuairand._NUMERIC_USER, *kuairand._CATEGORICAL_USER[4:]])
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,music_id,"
    "music_type,tag\n"
)


def kuairand_folder(folder: Path, size: str) -> Path:
    folder.mkdir(parents=True)

    def row(user: int, video: int, time: int, click: int, length: int, random: int) -> str:
        return f"{user},{video},20220422,1200,{time},{click},0,0,0,0,0,0,900,{length},0,0,0,{random},1\n"

    (folder / f"log_standard_4_08_to_4_21_{size}.csv").write_text(LOG + row(1, 5, 1000, 1, 39_999, 0) * 2)
    (folder / f"log_standard_4_22_to_5_08_{size}.csv").write_text(LOG + row(1, 6, 3000, 0, 40_000, 0))
    (folder / f"log_random_4_22_to_5_08_{size}.csv").write_text(
        LOG + row(1, 7, 2000, 0, 120_000, 1) + row(2, 9, 1, 1, 0, 1)
    )
    user = ["full_active,0,-124,1", "5,6,7,8", "a,b,c,d", *map(str, range(4)), "", *map(str, range(13))]
    (folder / f"user_features_{size}.csv").write_text(f"{USERS}\n1,{','.join(user)}\n2,{','.join(user)}\n")
    (folder / f"video_features_basic_{size}.csv").write_text(
        VIDEOS
        + "5,50,NORMAL,2022-04-10,Web,0.0,39999.0,720.0,1280.0,1,9.0,39\n"
        + '6,50,AD,2022-04-10,Web,0.0,40000.0,720.0,1280.0,1,,"12,3"\n'
        + "7,51,NORMAL,2022-04-10,Web,0.0,,720.0,1280.0,1,9.0,\n"
    )
    (folder / f"video_features_statistic_{size}.csv").write_text("video_id,show_cnt\n5,100\n")
    return folder


@pytest.mark.parametrize("size", ["pure", "1k"])
def test_kuairand_is_read_with_its_logs_and_features_and_without_the_whole_month_averages(
    tmp_path: Path, size: str
) -> None:
    kuairand_folder(tmp_path / "KuaiRand" / "data", size)
    journeys = prepare(tmp_path / "KuaiRand", f"kuairand-{size}", tmp_path / "out")
    assert journeys.channels == ("short", "mid", "long")
    assert journeys.offsets.tolist() == [0, 3, 4]
    assert journeys.channel.tolist() == [0, 2, 1, 0]  # user 1 by time: 39.999 s, 120 s, 40 s; user 2: a picture
    assert journeys.feature("is_rand").tolist() == [0, 1, 0, 1]
    assert journeys.manifest["notes"]["duplicates_dropped"] == 1
    tags = journeys.categories["feature/tag"]
    assert [tags[i] if i >= 0 else None for i in journeys.feature("tag")] == ["39", None, "12", None]
    assert np.isnan(journeys.feature("author_id")[-1])
    assert journeys.feature("register_days").tolist() == [8, 8]
    assert not journeys.has("feature/show_cnt")


def test_kuairand_without_its_feature_files_says_which_is_missing(tmp_path: Path) -> None:
    folder = kuairand_folder(tmp_path / "raw", "pure")
    (folder / "user_features_pure.csv").unlink()
    with pytest.raises(UserError, match="user_features_pure"):
        prepare(folder, "kuairand-pure", tmp_path / "out")


CRITEO = (
    "timestamp\tuid\tcampaign\tconversion\tconversion_timestamp\tconversion_id\tattribution\tclick\tclick_pos\tclick_nb\tcost"
    "\tcpo\ttime_since_last_click\t" + "\t".join(f"cat{i}" for i in range(1, 10)) + "\n"
)


def test_criteo_is_read_from_the_published_tsv_gz(tmp_path: Path) -> None:
    cats = "\t".join(["11", "12", "13", "14", "15", "16", "17", "{}", "19"])
    rows = [
        "0\t20\t7\t0\t-1\t-1\t0\t0\t-1\t-1\t1e-05\t0.39\t-1\t" + cats.format(29196072),
        "2\t20\t7\t1\t90\t555\t1\t1\t0\t1\t2e-05\t0.39\t100\t" + cats.format(3225256),
        "1\t9\t7\t0\t-1\t-1\t0\t0\t-1\t-1\t1e-05\t0.39\t-1\t" + cats.format(3225256),
    ]
    path = tmp_path / "criteo_attribution_dataset.tsv.gz"
    path.write_bytes(gzip.compress((CRITEO + "\n".join(rows) + "\n").encode()))
    for source in (path, tmp_path):
        journeys = prepare(source, "criteo-attribution", tmp_path / "out" / "j")
        assert journeys.users.tolist() == [9, 20]
        assert journeys.channels == ("3225256", "29196072")
        month = 30 * 86_400
        assert journeys.column("known_at/conversion").tolist() == [1 + month, 0 + month, 90]
        np.testing.assert_array_equal(journeys.feature("time_since_last_click"), [np.nan, np.nan, 100.0])
        np.testing.assert_array_equal(journeys.gain("click_nb"), [np.nan, np.nan, 1.0])
        assert [journeys.schema.gain(n).known for n in ("attribution", "click_pos", "click_nb")] == ["never"] * 3


def test_retailrocket_properties_are_joined_as_they_stood_then(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n"
        "3000,1,transaction,10,77\n1000,1,view,10,\n2000,1,addtocart,10,\n1000,2,view,11,\n"
    )
    (tmp_path / "item_properties_part1.csv").write_text(
        "timestamp,itemid,property,value\n1500,10,categoryid,5\n2500,10,available,0\n1500,10,790,n552.0\n"
    )
    (tmp_path / "item_properties_part2.csv").write_text(
        "timestamp,itemid,property,value\n3000,10,categoryid,6\n900,10,available,1\n"
    )
    journeys = prepare(tmp_path, "retailrocket", tmp_path / "out" / "j")
    assert journeys.gain("addtocart").tolist() == [0, 1, 0, 0]
    assert journeys.gain("transaction").tolist() == [0, 0, 1, 0]

    def words(name: str) -> list[str | None]:
        names = journeys.categories[f"feature/{name}"]
        return [names[i] if i >= 0 else None for i in journeys.feature(name)]

    assert words("categoryid") == [None, "5", "6", None]
    assert words("available") == ["1", "1", "0", None]
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for file in tmp_path.glob("*.csv"):
            archive.write(file, file.name)
    zipped = prepare(tmp_path / "archive.zip", "retailrocket", tmp_path / "out" / "z")
    assert zipped.fingerprint == journeys.fingerprint


def test_open_bandit_is_read_from_its_published_folders(tmp_path: Path) -> None:
    for policy in ("random", "bts"):
        folder = tmp_path / "open_bandit_dataset" / policy / "men"
        folder.mkdir(parents=True)
        head = "timestamp,item_id,position,click,propensity_score,"
        head += "user_feature_0,user_feature_1,user_feature_2,user_feature_3"
        (folder / "men.csv").write_text(
            f",{head},user-item_affinity_0,user-item_affinity_1\n"
            "0,2019-11-24 00:00:23.800000+00:00,1,3,0,0.25,a,b,c,d,0.0,1.0\n"
            "1,2019-11-24 00:00:40+00:00,0,1,1,0.75,a,b,c,e,2.0,1.0\n"
        )
        (folder / "item_context.csv").write_text(
            ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,0,-0.5,x,y,z\n1,1,0.5,x,y,w\n"
        )
    root = tmp_path / "open_bandit_dataset"
    journeys = prepare(root / "bts" / "men", "open-bandit", tmp_path / "out")
    assert (journeys.n_users, journeys.channels, journeys.channel.tolist()) == (2, ("0", "1"), [1, 0])
    assert journeys.column("propensity").tolist() == [0.25, 0.75]
    assert journeys.feature("item_feature_0").tolist() == [0.5, -0.5]
    assert journeys.feature("user-item_affinity_0").tolist() == [0.0, 2.0]
    assert journeys.time is not None and journeys.time.tolist() == [1574553623800.0, 1574553640000.0]
    with pytest.raises(UserError, match=r"2 logs here \(bts/men/men.csv, random/men/men.csv\)"):
        prepare(root, "open-bandit", tmp_path / "no")


def test_our_own_decision_log_is_read_with_the_schema_beside_it(tmp_path: Path) -> None:
    log = {"user": ["b", "a"], "time": [5, 4], "channel": ["x", "y"], "propensity": [0.5, 0.5], "cost": [1.0, 2.0]}
    pl.DataFrame(log | {"click": [1, 0]}).write_parquet(tmp_path / "decisions.parquet")
    plain = prepare(tmp_path / "decisions.parquet", "headrace", tmp_path / "out" / "a")
    assert (plain.users.tolist(), plain.schema.gains) == (["a", "b"], ())
    own = LogSchema("ours", user="user", time="time", channel="channel", gains=(Gain("click"),))
    own.save(tmp_path / "schema.toml")
    declared = prepare(tmp_path / "decisions.parquet", "headrace", tmp_path / "out" / "b")
    assert (declared.schema.name, declared.gain("click").tolist()) == ("ours", [0, 1])


def test_a_corrected_copy_of_a_published_schema_still_finds_its_files(tmp_path: Path) -> None:
    folder = kuairand_folder(tmp_path / "raw", "pure")
    values = READERS["kuairand-pure"].schema.to_dict()
    values["gains"] = [gain for gain in values["gains"] if gain["name"] == "is_click"]
    journeys = prepare(folder, LogSchema.from_dict(values), tmp_path / "out")
    assert [gain.name for gain in journeys.schema.gains] == ["is_click"] and journeys.n_steps == 4


@pytest.mark.parametrize(
    ("name", "place", "users", "steps", "channels", "dropped"),
    [
        ("kuairand-random-sample", "kuairand_random", 5_154, 107_708, 3, 2),
        ("criteo-attribution-sample", "criteo_attribution/criteo_sequence.parquet", 6_287, 92_522, 11, 0),
        ("kuairand-pure", "kuairand_pure", 21_381, 190_472, 3, 4_654),
        ("retailrocket", "retailrocket", 5_000, 9_382, 0, 3),
        ("open-bandit", "open_bandit_small/bts_all_all.parquet", 10_000, 10_000, 80, 0),
        ("open-bandit", "open_bandit_small/random_men_men.parquet", 10_000, 10_000, 34, 0),
    ],
)
def test_the_real_files_are_read_whole(
    shared_data: Path, tmp_path: Path, name: str, place: str, users: int, steps: int, channels: int, dropped: int
) -> None:
    journeys = prepare(shared_data / place, name, tmp_path / "out")
    assert (journeys.n_users, journeys.n_steps, len(journeys.channels)) == (users, steps, channels)
    assert journeys.manifest["notes"]["duplicates_dropped"] == dropped
    assert journeys.schema.name == name
    assert prepare(shared_data / place, name, tmp_path / "again").fingerprint == journeys.fingerprint


def test_the_real_criteo_sample_keeps_its_rows_in_order(shared_data: Path, tmp_path: Path) -> None:
    place = shared_data / "criteo_attribution"
    journeys = prepare(place, "criteo-attribution-sample", tmp_path / "out")
    log = pl.read_parquet(place / "criteo_sequence.parquet").sort("uid", maintain_order=True)
    np.testing.assert_array_equal(journeys.users[journeys.user_of_step], log["uid"])
    np.testing.assert_array_equal(journeys.column("cost"), log["cost"])
    np.testing.assert_array_equal(journeys.gain("click"), log["click"])
    onehot = log.select([f"Type_{name}" for name in journeys.channels]).to_numpy()
    np.testing.assert_array_equal(journeys.channel, onehot.argmax(axis=1))
